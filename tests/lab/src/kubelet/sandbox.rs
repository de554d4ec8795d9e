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
    inside, process, roles,
};

/// Each address is given once: a new pod never gets that of one that is gone.
static GIVEN: AtomicU32 = AtomicU32::new(0);

fn next_address() -> (u32, String) {
    let n = GIVEN.fetch_add(1, Ordering::SeqCst);
    (n, format!("10.99.{}.{}", 1 + (n / 250) % 250, 1 + n % 250))
}

/// The network namespace of one pod.
#[derive(Debug)]
pub(super) struct Sandbox {
    pub(super) ip: String,
    pub(super) netns: PathBuf,
}

impl Sandbox {
    pub(super) async fn make(folder: &Path) -> Result<Self> {
        let (n, ip) = next_address();
        let (netns, link) = (folder.join("netns"), format!("pod{n}"));
        fs::write(&netns, "").context(|| format!("making {}", netns.display()))?;
        let mut command = Command::new(inside::this_program()?);
        command
            .args([roles::ROLE, "sandbox"])
            .arg(&netns)
            .args([&ip, &link]);
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
