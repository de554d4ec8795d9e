//! A pod's own network: an address on the lab's bridge, and every port free.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use nix::mount::{MntFlags, umount2};

use crate::{
    error::{Context, Result},
    inside, process,
    roles,
};

/// Hands out addresses, each once: a new pod never gets the address of one that is gone.
#[derive(Debug, Default)]
pub(super) struct Addresses(AtomicU32);

impl Addresses {
    fn next(&self) -> (u32, String) {
        let n = self.0.fetch_add(1, Ordering::SeqCst);
        (n, format!("10.99.{}.{}", 1 + (n / 250) % 250, 1 + n % 250))
    }
}

/// The network namespace of one pod.
#[derive(Debug)]
pub(super) struct Sandbox {
    pub(super) ip: String,
    pub(super) netns: PathBuf,
}

impl Sandbox {
    pub(super) async fn make(addresses: &Addresses, folder: &Path) -> Result<Self> {
        let (n, ip) = addresses.next();
        let (netns, link) = (folder.join("netns"), format!("pod{n}"));
        fs::write(&netns, "").context(|| format!("making {}", netns.display()))?;
        let mut command = Command::new(inside::this_program()?);
        command.args([roles::ROLE, "sandbox"]).arg(&netns).args([&ip, &link]);
        process::output(command).await?;
        let sandbox = Self { ip, netns };
        let mut command = Command::new("ip");
        command.args(["link", "set", &link, "master", "lab0", "up"]);
        process::output(command).await?;
        Ok(sandbox)
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // The namespace goes with its last process; the link goes with the namespace.
        let _ = umount2(&self.netns, MntFlags::MNT_DETACH);
    }
}
