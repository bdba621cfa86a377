//! What `lotline bench` is measured against: the same bytes, keys and signatures, written with nothing but dalek, a
//! file with `sync_data`, and sled. None of our code runs here; the tidy test allows sled in this one file beside the store.

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};

/// One record as bytes: what is signed, what lies beside it, and the keys it is found under.
pub struct Raw {
    /// The signed message.
    pub message: Vec<u8>,
    /// Everything else that is stored with it.
    pub rest: Vec<u8>,
    /// Record key, lot key, part key.
    pub keys: [Vec<u8>; 3],
    /// What the index keeps under the record key.
    pub entry: Vec<u8>,
}

/// As many as a group commit takes.
const GROUP: usize = 256;

fn open(folder: &Path) -> std::io::Result<(File, sled::Db)> {
    std::fs::create_dir_all(folder)?;
    let file = File::create(folder.join("records"))?;
    let db = sled::Config::new().path(folder.join("index")).cache_capacity(64 << 20).flush_every_ms(Some(5000)).open();
    Ok((file, db.map_err(std::io::Error::other)?))
}

fn index(db: &sled::Db, raw: &Raw) -> std::io::Result<()> {
    let [record, lot, part] = &raw.keys;
    db.insert(record, raw.entry.as_slice()).map_err(std::io::Error::other)?;
    db.insert(lot, &[]).map_err(std::io::Error::other)?;
    db.insert(part, &[]).map_err(std::io::Error::other)?;
    Ok(())
}

/// Signs, writes and indexes all records, one sync a group. Returns the time it took.
pub fn publish(folder: &Path, key: &SigningKey, records: &[Raw]) -> std::io::Result<Duration> {
    let (mut file, db) = open(folder)?;
    let start = Instant::now();
    let mut buffer = Vec::new();
    for group in records.chunks(GROUP) {
        buffer.clear();
        for raw in group {
            let signature = key.sign(&raw.message).to_bytes();
            buffer.extend_from_slice(&raw.message);
            buffer.extend_from_slice(&signature);
            buffer.extend_from_slice(&raw.rest);
        }
        file.write_all(&buffer)?;
        file.sync_data()?;
        for raw in group {
            index(&db, raw)?;
        }
    }
    Ok(start.elapsed())
}

/// Sends all records over TCP on loopback from another thread; receives, verifies, writes and indexes them in one loop.
pub fn replicate(folder: &Path, key: &SigningKey, records: &[Raw]) -> std::io::Result<Duration> {
    let (mut file, db) = open(folder)?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    // Signed beforehand: the sender of a replication has its signatures in the store.
    let frames: Vec<Vec<u8>> = records.chunks(GROUP).map(|group| frame(key, group)).collect();
    let verifying = key.verifying_key();
    std::thread::scope(|scope| {
        let sender = scope.spawn(move || -> std::io::Result<()> {
            let (mut stream, _) = listener.accept()?;
            frames.iter().try_for_each(|frame| stream.write_all(frame))
        });
        let mut stream = TcpStream::connect(address)?;
        let start = Instant::now();
        let mut buffer = Vec::new();
        for group in records.chunks(GROUP) {
            buffer.clear();
            for raw in group {
                receive(&mut stream, raw, &verifying, &mut buffer)?;
            }
            file.write_all(&buffer)?;
            file.sync_data()?;
            for raw in group {
                index(&db, raw)?;
            }
        }
        let took = start.elapsed();
        sender.join().unwrap_or(Ok(()))?;
        Ok(took)
    })
}

fn frame(key: &SigningKey, group: &[Raw]) -> Vec<u8> {
    let mut frame = Vec::new();
    for raw in group {
        frame.extend_from_slice(&raw.message);
        frame.extend_from_slice(&key.sign(&raw.message).to_bytes());
        frame.extend_from_slice(&raw.rest);
    }
    frame
}

fn receive(stream: &mut TcpStream, raw: &Raw, key: &VerifyingKey, buffer: &mut Vec<u8>) -> std::io::Result<()> {
    let start = buffer.len();
    let signed = start + raw.message.len();
    buffer.resize(signed + 64 + raw.rest.len(), 0);
    stream.read_exact(&mut buffer[start..])?;
    let signature = Signature::from_slice(&buffer[signed..signed + 64]).map_err(std::io::Error::other)?;
    key.verify_strict(&buffer[start..signed], &signature).map_err(std::io::Error::other)
}

/// How often each is tried; what is taken is the median.
const TRIES: usize = 100;

/// What one acknowledged record cannot do without on this computer: a small write with its sync, into a file whose room is there
/// already, and a small round trip over TCP on loopback.
pub fn sync_and_round_trip(folder: &Path) -> std::io::Result<(Duration, Duration)> {
    let mut file = File::create(folder.join("sync"))?;
    file.write_all(&[0; 2048 * TRIES])?;
    file.sync_all()?;
    file.rewind()?;
    let sync = median(|| {
        file.write_all(&[7; 2048])?;
        file.sync_data()
    })?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let round_trip = std::thread::scope(|scope| {
        scope.spawn(move || -> std::io::Result<()> {
            let (mut stream, _) = listener.accept()?;
            stream.set_nodelay(true)?;
            let mut byte = [0];
            loop {
                stream.read_exact(&mut byte)?;
                stream.write_all(&byte)?;
            }
        });
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        median(|| {
            stream.write_all(&[7])?;
            stream.read_exact(&mut [0])
        })
    })?;
    Ok((sync, round_trip))
}

fn median(mut one: impl FnMut() -> std::io::Result<()>) -> std::io::Result<Duration> {
    let mut took = Vec::with_capacity(TRIES);
    for _ in 0..TRIES {
        let start = Instant::now();
        one()?;
        took.push(start.elapsed());
    }
    took.sort_unstable();
    Ok(took[TRIES / 2])
}
