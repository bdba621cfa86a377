//! The few calls that differ between systems: positioned reads and writes, preallocation, syncing a folder, free
//! space and the name of this machine. It knows nothing of the formats.

use std::{
    fs::{self, File},
    io,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Reads exactly `buf.len()` bytes at `offset` without moving a shared cursor.
#[cfg(unix)]
pub(super) fn read_at(file: &File, buf: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buf, offset)
}

/// Reads exactly `buf.len()` bytes at `offset`.
#[cfg(windows)]
pub(super) fn read_at(file: &File, mut buf: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !buf.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, buf, offset)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => {
                buf = &mut buf[n..];
                offset += n as u64;
            }
        }
    }
    Ok(())
}

/// Writes all of `buf` at `offset`.
#[cfg(unix)]
pub(super) fn write_at(file: &File, buf: &[u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, buf, offset)
}

/// Writes all of `buf` at `offset`.
#[cfg(windows)]
pub(super) fn write_at(file: &File, mut buf: &[u8], mut offset: u64) -> io::Result<()> {
    while !buf.is_empty() {
        match std::os::windows::fs::FileExt::seek_write(file, buf, offset)? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            n => {
                buf = &buf[n..];
                offset += n as u64;
            }
        }
    }
    Ok(())
}

/// Gives `file` its full size now, so that a full disk shows before anything is acknowledged and so that a later
/// `sync_data` has no size to write.
pub(super) fn preallocate(file: &File, bytes: u64) -> io::Result<()> {
    if reserve(file, bytes)? {
        return Ok(());
    }
    // No such call here (other systems, network folders): written zeros allocate everywhere.
    let zeros = vec![0; 1 << 20];
    let mut at = 0;
    while at < bytes {
        let n = (bytes - at).min(zeros.len() as u64);
        write_at(file, &zeros[..n as usize], at)?;
        at += n;
    }
    Ok(())
}

/// Reserves the blocks of `file` and leaves its content; `false` when the system cannot.
#[cfg(target_os = "linux")]
pub(super) fn reserve(file: &File, bytes: u64) -> io::Result<bool> {
    use rustix::io::Errno;
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, bytes) {
        Ok(()) => Ok(true),
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn reserve(_: &File, _: u64) -> io::Result<bool> {
    Ok(false)
}

/// Makes names created, renamed or removed in `dir` durable.
#[cfg(unix)]
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// NTFS journals names itself, and a folder cannot be opened as a file.
#[cfg(not(unix))]
pub(super) fn sync_dir(_: &Path) -> io::Result<()> {
    Ok(())
}

/// Free bytes on the disk of `dir`, if the system tells.
#[cfg(unix)]
pub(super) fn free_bytes(dir: &Path) -> Option<u64> {
    let s = rustix::fs::statvfs(dir).ok()?;
    Some(s.f_bavail.saturating_mul(s.f_frsize))
}

#[cfg(not(unix))]
pub(super) fn free_bytes(_: &Path) -> Option<u64> {
    None
}

/// Bytes of the plain files directly in `dir`.
pub(super) fn folder_bytes(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    entries.flatten().filter_map(|e| e.metadata().ok()).filter(fs::Metadata::is_file).map(|m| m.len()).sum()
}

/// Replaces `path` as a whole: after a crash there is the old text or the new one, never a mixture.
pub(super) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    use io::Write;
    let temp = path.with_extension("new");
    let mut file = File::create(&temp)?;
    file.write_all(content)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&temp, path)?;
    path.parent().map_or(Ok(()), sync_dir)
}

/// What tells this machine from another, hashed so that the seal does not give the id itself away. A container
/// without a machine id is known by its host name: recreated under a new one, it counts as another machine.
pub(super) fn machine_id() -> [u8; 32] {
    use sha2::Digest;
    let known = ["/etc/machine-id", "/var/lib/dbus/machine-id"].iter().find_map(|p| non_empty(fs::read_to_string(p).ok()));
    let name = || {
        let host = non_empty(fs::read_to_string("/proc/sys/kernel/hostname").ok());
        let host = host.or_else(|| ["COMPUTERNAME", "HOSTNAME"].iter().find_map(|v| non_empty(std::env::var(v).ok())));
        format!("{} {} {}", std::env::consts::OS, std::env::consts::ARCH, host.unwrap_or_default())
    };
    let id = known.unwrap_or_else(name);
    sha2::Sha256::new_with_prefix("lotline machine ").chain_update(id).finalize().into()
}

fn non_empty(text: Option<String>) -> Option<String> {
    text.map(|t| t.trim().to_owned()).filter(|t| !t.is_empty())
}

/// Locks, also after a panic elsewhere: what the store's locks guard is never left half changed.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
