//! A root file system of a process's own: the host's, with folders put where a pod wants them.

use std::{
    ffi::OsString,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

use crate::error::{Context, Result};

const NONE: Option<&str> = None;

/// Puts each folder or file (where it is, where it is wanted) into a root made on the empty folder
/// `root`, and changes this process's root to it. With nothing to put, nothing is done.
pub(crate) fn place(mounts: &[(PathBuf, PathBuf)], root: &Path) -> Result<()> {
    if mounts.is_empty() {
        return Ok(());
    }
    unshare(CloneFlags::CLONE_NEWNS).context(|| "making a mount namespace")?;
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)
        .context(|| "making mounts private")?;
    let mounts: Vec<_> = mounts
        .iter()
        .map(|(from, to)| (from, resolved(to)))
        .collect();
    let open: Vec<OsString> = mounts
        .iter()
        .filter_map(|(_, to)| to.iter().nth(1).map(OsString::from))
        .collect();
    host_copy(root, &open)?;
    for (from, to) in mounts {
        let inner = root.join(to.strip_prefix("/").unwrap_or(&to));
        let what = || format!("mounting {}", to.display());
        if from.is_dir() {
            fs::create_dir_all(&inner).context(what)?;
        } else {
            fs::create_dir_all(inner.parent().unwrap_or(root)).context(what)?;
            fs::write(&inner, "").context(what)?;
        }
        mount(Some(from), &inner, NONE, MsFlags::MS_BIND, NONE).context(what)?;
    }
    nix::unistd::chroot(root).context(|| "changing the root")?;
    std::env::set_current_dir("/").context(|| "changing to the new root")
}

/// The place with links followed as far as it exists (`/var/run` is mostly `/run`).
fn resolved(place: &Path) -> PathBuf {
    let mut rest = PathBuf::new();
    let mut at = place;
    loop {
        if let Ok(real) = fs::canonicalize(at) {
            return real.join(rest);
        }
        let (Some(parent), Some(name)) = (at.parent(), at.file_name()) else {
            return place.to_owned();
        };
        rest = if rest.as_os_str().is_empty() {
            name.into()
        } else {
            Path::new(name).join(rest)
        };
        at = parent;
    }
}

/// Makes `root` look like the host's. The top folders named in `open` can be written to: each is
/// an overlay over the host's own, so nothing of the host's is hidden or changed.
fn host_copy(root: &Path, open: &[OsString]) -> Result<()> {
    let what = || "making a private root";
    // What is written into overlays; they want it on a mount that may be bound.
    let scratch = root.with_extension("scratch");
    fs::create_dir_all(&scratch).context(what)?;
    mount(
        Some("tmpfs"),
        &scratch,
        Some("tmpfs"),
        MsFlags::empty(),
        NONE,
    )
    .context(what)?;
    mount(Some("tmpfs"), root, Some("tmpfs"), MsFlags::empty(), NONE).context(what)?;
    // Else it would be copied into itself, being somewhere below a folder that is bound.
    mount(NONE, root, NONE, MsFlags::MS_UNBINDABLE, NONE).context(what)?;
    for entry in fs::read_dir("/").context(what)?.flatten() {
        let (from, to) = (entry.path(), root.join(entry.file_name()));
        let kind = entry.file_type().context(what)?;
        if kind.is_symlink() {
            let target = fs::read_link(&from).context(what)?;
            std::os::unix::fs::symlink(target, &to).context(what)?;
        } else if kind.is_dir() {
            fs::create_dir(&to).context(what)?;
            if open.contains(&entry.file_name()) {
                overlay(&from, &to, &scratch.join(entry.file_name()))?;
            } else {
                let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
                mount(Some(&from), &to, NONE, flags, NONE).context(what)?;
            }
        }
    }
    Ok(())
}

fn overlay(lower: &Path, at: &Path, scratch: &Path) -> Result<()> {
    let (upper, work) = (scratch.join("upper"), scratch.join("work"));
    let what = || format!("overlaying {}", lower.display());
    fs::create_dir_all(&upper).context(what)?;
    fs::create_dir_all(&work).context(what)?;
    fs::set_permissions(&upper, fs::Permissions::from_mode(0o755)).context(what)?;
    let options = format!(
        "lowerdir={},upperdir={},workdir={},userxattr",
        lower.display(),
        upper.display(),
        work.display()
    );
    let options = Some(options.as_str());
    mount(
        Some("overlay"),
        at,
        Some("overlay"),
        MsFlags::empty(),
        options,
    )
    .context(what)
}
