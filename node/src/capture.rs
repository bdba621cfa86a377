//! What was handed to the transport, written to a file when the owner says so: to compare with the ledger.
//!
//! One captured frame after the other, each with its length in front: u32 (big-endian), then deterministic CBOR
//! `[1, seconds since 1970, partner, origin of the feed, bytes handed over, frame]`. The frame is whole, as in docs/wire.md,
//! also when sharing ended before all of it was handed over. The file holds what partners were shown, in the clear.

use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use lotline_schema::codec::{self, Value};

use crate::exchange::{FRAME_BYTES_MAX, Message};

const VERSION: u64 = 1;
/// The largest captured frame with what stands beside it.
const CAPTURED_BYTES_MAX: usize = FRAME_BYTES_MAX + 16 * 1024;

/// A file that is being written.
#[derive(Clone)]
pub struct Capture(Arc<Mutex<File>>);

/// One frame that was handed over, in whole or in part.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Captured {
    /// When, in seconds since 1970.
    pub at: u64,
    /// To which partner.
    pub to: String,
    /// Of which feed.
    pub origin: String,
    /// How many of its bytes were handed over.
    pub handed: u64,
    /// The frame, its length in front.
    pub frame: Vec<u8>,
}

/// A capture that does not read.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The machine's.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The file's.
    #[error("captured frame {0} does not read: this is no capture of `lotline run --capture`, or it was altered")]
    Form(u64),
    /// The file's: its writer was stopped in the middle of a frame.
    #[error("captured frame {0} is cut off")]
    Cut(u64),
}

impl Capture {
    /// Adds to a file, or makes it, for this user alone. A frame that a kill tore at its end is cut off: what comes after it
    /// could not be read.
    pub fn open(path: &Path) -> io::Result<Capture> {
        let file = crate::platform::append_private(path)?;
        if file.metadata()?.is_file() {
            let (end, size) = whole(&file)?;
            if end < size {
                tracing::warn!(bytes = size - end, "cut a torn frame off the end of the capture");
                file.set_len(end)?;
            }
        }
        Ok(Capture(Arc::new(Mutex::new(file))))
    }

    /// Writes a frame down.
    pub fn write(&self, captured: &Captured) -> io::Result<()> {
        let bytes = codec::encode(&codec::array([
            codec::uint(VERSION),
            codec::uint(captured.at),
            codec::text(captured.to.as_str()),
            codec::text(captured.origin.as_str()),
            codec::uint(captured.handed),
            codec::bytes(captured.frame.as_slice()),
        ]));
        let length = (bytes.len() as u32).to_be_bytes();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write_all(&[&length[..], &bytes].concat())
    }
}

/// Shows every frame of a capture.
pub fn read<E: From<CaptureError>>(mut file: impl Read, mut show: impl FnMut(u64, Captured) -> Result<(), E>) -> Result<u64, E> {
    for number in 0.. {
        let mut length = [0; 4];
        match fill(&mut file, &mut length).map_err(CaptureError::from)? {
            0 => return Ok(number),
            4 => {}
            _ => return Err(CaptureError::Cut(number).into()),
        }
        let length = u32::from_be_bytes(length) as usize;
        if length > CAPTURED_BYTES_MAX {
            return Err(CaptureError::Form(number).into());
        }
        let mut bytes = vec![0; length];
        if fill(&mut file, &mut bytes).map_err(CaptureError::from)? < length {
            return Err(CaptureError::Cut(number).into());
        }
        show(number, Captured::read(&bytes).ok_or(CaptureError::Form(number))?)?;
    }
    unreachable!("a file ends before 2^64 frames")
}

/// Where the last whole frame ends, and the file.
fn whole(mut file: &File) -> io::Result<(u64, u64)> {
    let (mut end, size) = (0, file.metadata()?.len());
    loop {
        let mut length = [0; 4];
        file.seek(SeekFrom::Start(end))?;
        if fill(&mut file, &mut length)? < length.len() {
            return Ok((end, size));
        }
        let length = u32::from_be_bytes(length) as usize;
        if length > CAPTURED_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is no capture of `lotline run --capture`; name another file"));
        }
        let next = end + 4 + length as u64;
        if next > size {
            return Ok((end, size));
        }
        end = next;
    }
}

/// Reads as much as there is.
fn fill(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

impl Captured {
    fn read(bytes: &[u8]) -> Option<Captured> {
        match <[Value; 6]>::try_from(codec::as_array(&codec::decode(bytes).ok()?)?.to_vec()).ok()? {
            [version, at, Value::Text(to), Value::Text(origin), handed, Value::Bytes(frame)]
                if codec::as_uint(&version) == Some(VERSION) =>
            {
                Some(Captured { at: codec::as_uint(&at)?, to, origin, handed: codec::as_uint(&handed)?, frame })
            }
            _ => None,
        }
    }

    /// The message in the frame; none when it is no frame of this protocol.
    pub fn message(&self) -> Option<Message> {
        Message::read(self.frame.get(4..)?).ok()?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(bytes: &[u8]) -> Result<Vec<Captured>, CaptureError> {
        let mut found = Vec::new();
        read(bytes, |_, captured| {
            found.push(captured);
            Ok::<_, CaptureError>(())
        })?;
        Ok(found)
    }

    #[test]
    fn a_capture_is_read_back_and_what_is_none_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("capture");
        let frame = Message::Ping.to_frame();
        let captured = Captured { at: 5, to: "oem".into(), origin: "o".into(), handed: 2, frame };
        for _ in 0..2 {
            // Opened again, it goes on at its end.
            Capture::open(&path).unwrap().write(&captured).unwrap();
        }
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(frames(&bytes).unwrap(), [captured.clone(), captured.clone()]);
        assert_eq!(captured.message(), Some(Message::Ping));
        assert!(matches!(frames(&bytes[..bytes.len() - 1]), Err(CaptureError::Cut(1))));
        assert!(matches!(frames(&bytes[..2]), Err(CaptureError::Cut(0))));
        assert!(matches!(frames(&[0, 0, 0, 1, 0xff]), Err(CaptureError::Form(0))));
        assert!(matches!(frames(&[0xff; 64]), Err(CaptureError::Form(0))));
        // What a kill tore is cut off before the next frame, and nothing else is.
        for torn in [1, 3, 4, 9] {
            std::fs::write(&path, [&bytes[..], &bytes[..torn]].concat()).unwrap();
            Capture::open(&path).unwrap().write(&captured).unwrap();
            assert_eq!(frames(&std::fs::read(&path).unwrap()).unwrap().len(), 3, "{torn} bytes");
        }
        std::fs::write(&path, "a letter to somebody").unwrap();
        assert!(Capture::open(&path).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"a letter to somebody");
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_others_could_read_becomes_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("capture");
        std::fs::write(&path, b"").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        Capture::open(&path).unwrap();
        assert!(!crate::platform::readable_by_others(&path).unwrap());
    }
}
