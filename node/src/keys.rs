//! The keys of one organisation: made at `init`, kept one file each, readable by their owner alone.
//!
//! The root key never enters the home: it goes, sealed with a passphrase, into the recovery kit ([`kit`]). Which key is
//! good is said by the org feed and never by a file: a new key waits as `<role>.next.key` until the org feed names it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ed25519_dalek::VerifyingKey;
use lotline_schema::cose::Signer;
use lotline_schema::id::{hex, unhex};
use lotline_schema::org::{Org, Role};
use lotline_schema::{Origin, PartyId};
use zeroize::Zeroizing;

use crate::platform;

pub mod kit;

use kit::{Holds, Kit, Secret};

/// Keys of the public demo identities in `keys-example/` (their seeds are published): good on loopback only.
pub const EXAMPLES: [&str; 3] = ["supplier", "oem-a", "oem-b"];

/// Keys that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file is missing or cannot be read.
    #[error("cannot read the key `{path}`: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file cannot be written.
    #[error("cannot write the key `{path}`: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Others may read it.
    #[error("others can read the key `{0}`; make it yours alone (chmod 600) and consider rotating it")]
    Exposed(PathBuf),
    /// Not a key.
    #[error("`{0}` is not a key: 64 hex digits were expected")]
    Form(PathBuf),
    /// The recovery kit, or another sealed key, does not open.
    #[error("the sealed key does not open: {0}")]
    Kit(String),
    /// Words that are no key.
    #[error("these words are no key: {0}")]
    Words(String),
}

/// The four working keys of a node.
pub struct Keys {
    /// Signs records and most org entries.
    pub record: Signer,
    /// Signs checkpoints.
    pub log: Signer,
    transport: Zeroizing<[u8; 32]>,
    witness: Zeroizing<[u8; 32]>,
    example: bool,
    folder: PathBuf,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys(..)")
    }
}

/// A fresh set: the working keys' seeds by role, and the root's.
pub struct Founding {
    /// The root key; write it into the kit and forget it.
    pub root: Signer,
    root_seed: Zeroizing<[u8; 32]>,
    seeds: BTreeMap<Role, Zeroizing<[u8; 32]>>,
}

/// 32 bytes from the operating system.
fn seed() -> Zeroizing<[u8; 32]> {
    let mut seed = Zeroizing::new([0u8; 32]);
    random(&mut *seed);
    seed
}

/// Fills a buffer from the operating system's generator.
pub fn random(buffer: &mut [u8]) {
    getrandom::fill(buffer).expect("an operating system without randomness cannot run a signing program");
}

impl Founding {
    /// New keys for a new organisation.
    pub fn new() -> Founding {
        Founding::from_seeds(|_| seed())
    }

    /// The keys of a published example identity; none for any other name, whose keys would be just as public.
    pub fn example(name: &str) -> Option<Founding> {
        let seed = |role: &str| Zeroizing::new(lotline_schema::Hash::of(&[b"lotline example ", name.as_bytes(), b" ", role.as_bytes()]).0);
        EXAMPLES.contains(&name).then(|| Founding::from_seeds(seed))
    }

    fn from_seeds(mut make: impl FnMut(&str) -> Zeroizing<[u8; 32]>) -> Founding {
        let root_seed = make("root");
        let seeds = Role::ALL.into_iter().map(|role| (role, make(role.name()))).collect();
        Founding { root: Signer::from_seed(&root_seed), root_seed, seeds }
    }

    /// The party these keys found.
    pub fn party(&self) -> PartyId {
        PartyId::of(&self.root.public())
    }

    /// The public keys for the keyring.
    pub fn public(&self) -> BTreeMap<Role, ed25519_dalek::VerifyingKey> {
        self.seeds.iter().map(|(role, seed)| (*role, Signer::from_seed(seed).public())).collect()
    }

    /// Writes the working keys into a folder.
    pub fn write(&self, folder: &Path) -> Result<(), KeyError> {
        platform::create_private_folder(folder).map_err(|source| KeyError::Write { path: folder.into(), source })?;
        for (role, seed) in &self.seeds {
            write_seed(&key_file(folder, *role), seed)?;
        }
        Ok(())
    }

    /// The recovery kit: plain words, then the root key sealed with the passphrase.
    pub fn kit(&self, name: &str, passphrase: &str, work_factor: u8) -> Result<Kit, KeyError> {
        Kit::seal(Holds::Root, name, self.party(), &Secret::from_seed(&self.root_seed), passphrase, work_factor)
    }
}

impl Default for Founding {
    fn default() -> Self {
        Founding::new()
    }
}

impl Keys {
    /// Reads the working keys of a home, and refuses them when others can.
    pub fn read(folder: &Path) -> Result<Keys, KeyError> {
        let seed = |role: Role| read_seed(&key_file(folder, role));
        let (record, log, transport, witness) = (seed(Role::Record)?, seed(Role::Log)?, seed(Role::Transport)?, seed(Role::Witness)?);
        // One public key is enough: a rotation replaces one role's only.
        let example = [(Role::Record, &record), (Role::Log, &log), (Role::Transport, &transport)].into_iter().any(is_example);
        let (record, log) = (Signer::from_seed(&record), Signer::from_seed(&log));
        Ok(Keys { record, log, transport, witness, example, folder: folder.into() })
    }

    /// The role whose key here is not the one that the org feed names, if there is one: the home was restored from a
    /// backup made before a rotation.
    pub fn outdated(&self, org: &Org) -> Option<Role> {
        let fits = |role: Role, signer: &Signer| org.key(role).is_none_or(|named| *named == signer.public());
        [(Role::Log, &self.log), (Role::Record, &self.record)].into_iter().find(|(role, signer)| !fits(*role, signer)).map(|(role, _)| role)
    }

    /// Writes a new key for a role beside the one in use, durably: the first step of a rotation.
    pub fn prepare(&self, role: Role) -> Result<Next, KeyError> {
        let next = Next { role, secret: Secret::new(), folder: self.folder.clone() };
        write_seed(&next_file(&self.folder, role), next.secret.seed())?;
        Ok(next)
    }

    /// These keys with a new one in its place.
    pub fn with(&self, next: &Next) -> Keys {
        let signer = |role: Role, now: &Signer| if role == next.role { next.secret.signer().clone() } else { now.clone() };
        let (record, log) = (signer(Role::Record, &self.record), signer(Role::Log, &self.log));
        let witness = if next.role == Role::Witness { Zeroizing::new(*next.secret.seed()) } else { self.witness.clone() };
        let transport = self.transport.clone();
        Keys { record, log, transport, witness, example: self.example, folder: self.folder.clone() }
    }

    /// Brings the files in line with the org feed: a key that it names takes the place of the old one, whose secret is
    /// gone with that; one that it does not name was prepared for a rotation that never happened, and goes. A crash
    /// anywhere leaves something that the next call mends. `moving`: a named transport key waits beside the old one until
    /// partners know it. None: there was nothing to do.
    pub fn settle(&self, org: &Org, moving: bool) -> Result<Option<Keys>, KeyError> {
        let mut promoted = false;
        for role in Role::ALL {
            let (next, key) = (next_file(&self.folder, role), key_file(&self.folder, role));
            if !next.exists() {
                continue;
            }
            let named = org.key(role) == Some(&Signer::from_seed(&*read_seed(&next)?).public());
            if named && moving && role == Role::Transport {
                continue;
            }
            let moved = if named { std::fs::rename(&next, &key) } else { std::fs::remove_file(&next) };
            moved.and_then(|()| platform::sync_folder(&self.folder)).map_err(|source| KeyError::Write { path: next, source })?;
            promoted |= named;
        }
        promoted.then(|| Keys::read(&self.folder)).transpose()
    }

    /// Makes the two keys for a feed that another organisation is asked for, on disk before anybody hears of them.
    pub fn make_pen(&self) -> Result<Pen, KeyError> {
        let folder = self.folder.join(PENS);
        platform::create_private_folder(&folder).map_err(|source| KeyError::Write { path: folder.clone(), source })?;
        let (record, log) = (seed(), seed());
        let pen = Pen { record: Signer::from_seed(&record), log: Signer::from_seed(&log) };
        write_seed(&pen_file(&self.folder, &pen.record.public()), &record)?;
        write_seed(&pen_file(&self.folder, &pen.log.public()), &log)?;
        Ok(pen)
    }

    /// Reads the keys of a feed that was asked for.
    pub fn pen(&self, record: &VerifyingKey, log: &VerifyingKey) -> Result<Pen, KeyError> {
        let signer = |key| Ok::<_, KeyError>(Signer::from_seed(&*read_seed(&pen_file(&self.folder, key))?));
        Ok(Pen { record: signer(record)?, log: signer(log)? })
    }

    /// Removes the keys of feeds asked for that are none of these: nothing is signed with them any more, so they can only
    /// be stolen.
    pub fn keep_pens(&self, keep: &[VerifyingKey]) -> Result<(), KeyError> {
        let (folder, keep) = (self.folder.join(PENS), keep.iter().map(|key| pen_file(&self.folder, key)).collect::<Vec<_>>());
        let failed = |source| KeyError::Write { path: folder.clone(), source };
        let files = match std::fs::read_dir(&folder) {
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            files => files.map_err(failed)?,
        };
        for file in files {
            let path = file.map_err(failed)?.path();
            if !keep.contains(&path) {
                std::fs::remove_file(path).map_err(failed)?;
            }
        }
        platform::sync_folder(&folder).map_err(failed)
    }

    /// Where the sealed key of a named person lies.
    pub fn signer_file(&self, key: &VerifyingKey) -> PathBuf {
        signer_file(&self.folder, key)
    }

    /// The transport key in use.
    pub fn transport(&self) -> VerifyingKey {
        Signer::from_seed(&self.transport).public()
    }

    /// The transport key's seed, for the network.
    pub fn transport_seed(&self) -> [u8; 32] {
        *self.transport
    }

    /// The key with which this node cosigns checkpoints of one followed feed: another one for each feed, so that nobody
    /// can tell who follows what, and another one after each restore, so that none ever signs two histories.
    pub fn witness(&self, origin: &Origin, epoch: u64) -> Signer {
        Signer::from_seed(&Zeroizing::new(lotline_schema::note::witness_seed(&self.witness, origin, epoch)))
    }

    /// Whether these are published keys, which anybody can use: never off loopback.
    pub fn are_examples(&self) -> bool {
        self.example
    }
}

/// Where the sealed key of a named person lies in a folder of keys.
pub fn signer_file(folder: &Path, key: &VerifyingKey) -> PathBuf {
    folder.join("signers").join(format!("{}.age", lotline_schema::id::thumbprint(key).short()))
}

/// Folder of the keys for feeds of others.
const PENS: &str = "delegated";

/// The two keys that write one feed of another organisation, and nothing else.
#[derive(Clone, Debug)]
pub struct Pen {
    /// Signs its records.
    pub record: Signer,
    /// Signs its checkpoints.
    pub log: Signer,
}

/// By its public key: what a file is called cannot be wrong about what is in it.
fn pen_file(folder: &Path, key: &VerifyingKey) -> PathBuf {
    folder.join(PENS).join(format!("{}.key", lotline_schema::id::thumbprint(key)))
}

/// A new key on disk that nothing names yet.
pub struct Next {
    role: Role,
    secret: Secret,
    folder: PathBuf,
}

impl Next {
    /// What the rotation will name.
    pub fn public(&self) -> VerifyingKey {
        self.secret.signer().public()
    }

    /// Takes it back: the rotation did not happen.
    pub fn forget(self) {
        // What stays is removed when the home is opened next.
        let _ = std::fs::remove_file(next_file(&self.folder, self.role));
    }
}

fn key_file(folder: &Path, role: Role) -> PathBuf {
    folder.join(format!("{role}.key"))
}

fn next_file(folder: &Path, role: Role) -> PathBuf {
    folder.join(format!("{role}.next.key"))
}

fn is_example((role, seed): (Role, &Zeroizing<[u8; 32]>)) -> bool {
    EXAMPLES.iter().any(|name| lotline_schema::Hash::of(&[b"lotline example ", name.as_bytes(), b" ", role.name().as_bytes()]).0 == **seed)
}

fn write_seed(path: &Path, seed: &[u8; 32]) -> Result<(), KeyError> {
    // With room for the line's end, so that no copy is left behind by growing.
    let mut text = Zeroizing::new(String::with_capacity(65));
    text.push_str(&Zeroizing::new(hex(seed)));
    text.push('\n');
    platform::write_secret(path, text.as_bytes()).map_err(|source| KeyError::Write { path: path.into(), source })
}

fn read_seed(path: &Path) -> Result<Zeroizing<[u8; 32]>, KeyError> {
    let read = |source| KeyError::Read { path: path.into(), source };
    if platform::readable_by_others(path).map_err(read)? {
        return Err(KeyError::Exposed(path.into()));
    }
    let text = Zeroizing::new(std::fs::read_to_string(path).map_err(read)?);
    let bytes = Zeroizing::new(unhex(text.trim_end()).ok_or_else(|| KeyError::Form(path.into()))?);
    let seed: [u8; 32] = bytes.as_slice().try_into().map_err(|_| KeyError::Form(path.into()))?;
    Ok(Zeroizing::new(seed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn keys_that_others_can_read_are_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        Founding::new().write(folder.path()).unwrap();
        assert!(!Keys::read(folder.path()).unwrap().are_examples());
        let log = folder.path().join("log.key");
        std::fs::set_permissions(&log, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(Keys::read(folder.path()), Err(KeyError::Exposed(path)) if path == log));
    }

    /// An org feed that names the keys of a folder.
    fn org_of(founding: &Founding) -> Org {
        use lotline_schema::org::{self, Entry};
        let mut org = Org::new(founding.party());
        org.accept(org::seal(&org, &Entry::keyring("ACME", founding.public()), 0, &founding.root, random).unwrap().core).unwrap();
        org
    }

    #[test]
    fn a_new_key_waits_until_the_org_feed_names_it() {
        use lotline_schema::org::{self, Entry, Places};
        let folder = tempfile::tempdir().unwrap();
        let (founding, path) = (Founding::new(), folder.path());
        founding.write(path).unwrap();
        let (keys, mut org) = (Keys::read(path).unwrap(), org_of(&founding));
        // Never named: the rotation did not happen.
        keys.prepare(Role::Record).unwrap();
        assert!(keys.settle(&org, false).unwrap().is_none() && !next_file(path, Role::Record).exists());
        assert_eq!(keys.outdated(&org), None);
        // Named, and cut before the file was moved.
        let next = keys.prepare(Role::Record).unwrap();
        let from = Places::from([(lotline_schema::Origin::org(founding.party()).to_string(), 1)]);
        let entry = Entry::Rotation { role: Role::Record, key: next.public(), from, reason: String::new() };
        org.accept(org::seal(&org, &entry, 0, &founding.root, random).unwrap().core).unwrap();
        assert_eq!((keys.outdated(&org), keys.with(&next).outdated(&org)), (Some(Role::Record), None));
        let settled = Keys::read(path).unwrap().settle(&org, false).unwrap().unwrap();
        assert_eq!(settled.record.public(), next.public());
        assert!(!next_file(path, Role::Record).exists() && settled.settle(&org, false).unwrap().is_none());
        assert_eq!(Keys::read(path).unwrap().outdated(&org), None);
    }

    #[test]
    fn keys_for_a_feed_of_others_lie_there_until_nothing_is_signed_with_them() {
        let folder = tempfile::tempdir().unwrap();
        Founding::new().write(folder.path()).unwrap();
        let keys = Keys::read(folder.path()).unwrap();
        keys.keep_pens(&[]).unwrap();
        let (one, other) = (keys.make_pen().unwrap(), keys.make_pen().unwrap());
        let public = |pen: &Pen| [pen.record.public(), pen.log.public()];
        assert_eq!(public(&keys.pen(&one.record.public(), &one.log.public()).unwrap()), public(&one));
        assert!(keys.pen(&one.record.public(), &keys.record.public()).is_err());
        keys.keep_pens(&public(&one)).unwrap();
        assert!(keys.pen(&one.record.public(), &one.log.public()).is_ok());
        assert!(keys.pen(&other.record.public(), &other.log.public()).is_err());
    }

    #[test]
    fn a_new_transport_key_waits_beside_the_old_one_as_long_as_it_is_told() {
        use lotline_schema::org::{self, Entry, Places};
        let folder = tempfile::tempdir().unwrap();
        let (founding, path) = (Founding::new(), folder.path());
        founding.write(path).unwrap();
        let (keys, mut org) = (Keys::read(path).unwrap(), org_of(&founding));
        let next = keys.prepare(Role::Transport).unwrap();
        let entry = Entry::Rotation { role: Role::Transport, key: next.public(), from: Places::new(), reason: String::new() };
        org.accept(org::seal(&org, &entry, 0, &founding.root, random).unwrap().core).unwrap();
        // A start in between changes nothing; a start after the move that was cut before its file finishes it.
        assert!(keys.settle(&org, true).unwrap().is_none() && next_file(path, Role::Transport).exists());
        assert_eq!(Keys::read(path).unwrap().transport(), keys.transport());
        assert_eq!(keys.settle(&org, false).unwrap().unwrap().transport(), next.public());
        assert!(!next_file(path, Role::Transport).exists());
    }

    #[test]
    fn published_keys_are_known() {
        let folder = tempfile::tempdir().unwrap();
        Founding::example("supplier").unwrap().write(folder.path()).unwrap();
        assert!(Keys::read(folder.path()).unwrap().are_examples());
    }
}
