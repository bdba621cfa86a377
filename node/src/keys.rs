//! The keys of one organisation: made at `init`, kept one file each, readable by their owner alone.
//!
//! The root key never enters the home: it goes, sealed with a passphrase, into the recovery kit.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use age::secrecy::SecretString;
use lotline_schema::PartyId;
use lotline_schema::cose::Signer;
use lotline_schema::id::{hex, unhex};
use lotline_schema::org::Role;
use zeroize::{Zeroize as _, Zeroizing};

use crate::platform;

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
    /// The recovery kit does not open.
    #[error("the recovery kit does not open: {0}")]
    Kit(String),
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
            let path = folder.join(format!("{role}.key"));
            let mut text = Zeroizing::new(hex(&**seed));
            text.push('\n');
            platform::write_secret(&path, text.as_bytes()).map_err(|source| KeyError::Write { path, source })?;
        }
        Ok(())
    }

    /// The recovery kit: plain words, then the root key sealed with the passphrase (age, scrypt).
    pub fn kit(&self, name: &str, passphrase: &str, work_factor: u8) -> Result<String, KeyError> {
        let kit = |why: &dyn std::fmt::Display| KeyError::Kit(why.to_string());
        let mut recipient = age::scrypt::Recipient::new(SecretString::from(passphrase.to_owned()));
        recipient.set_work_factor(work_factor);
        let encryptor = age::Encryptor::with_recipients(std::iter::once(&recipient as &dyn age::Recipient)).map_err(|why| kit(&why))?;
        let mut sealed = Vec::new();
        let armor = age::armor::ArmoredWriter::wrap_output(&mut sealed, age::armor::Format::AsciiArmor).map_err(|why| kit(&why))?;
        let mut writer = encryptor.wrap_output(armor).map_err(|why| kit(&why))?;
        let mut secret = Zeroizing::new(hex(&*self.root_seed));
        writer.write_all(secret.as_bytes()).map_err(|why| kit(&why))?;
        secret.zeroize();
        writer.finish().and_then(|armor| armor.finish()).map_err(|why| kit(&why))?;
        let sealed = String::from_utf8_lossy(&sealed);
        let party = self.party();
        Ok(format!(
            "LOTLINE RECOVERY KIT for {name}\n\n\
             Keep this file away from the computer that runs Lotline: on a stick in the safe, or printed.\n\
             With it and its passphrase you can name new keys when the old ones are lost or stolen.\n\
             Nobody can replace it, and nobody else has a copy.\n\n\
             identity  {party}\n\
             six words {}\n\n{sealed}",
            party.six_words()
        ))
    }
}

impl Default for Founding {
    fn default() -> Self {
        Founding::new()
    }
}

/// Opens a recovery kit: the root key.
pub fn open_kit(kit: &str, passphrase: &str) -> Result<Signer, KeyError> {
    let failed = |why: &dyn std::fmt::Display| KeyError::Kit(why.to_string());
    let start = kit.find("-----BEGIN AGE").ok_or_else(|| KeyError::Kit("it holds no sealed key".into()))?;
    let armor = age::armor::ArmoredReader::new(&kit.as_bytes()[start..]);
    let decryptor = age::Decryptor::new(armor).map_err(|why| failed(&why))?;
    let identity = age::scrypt::Identity::new(SecretString::from(passphrase.to_owned()));
    let mut reader = decryptor
        .decrypt(std::iter::once(&identity as &dyn age::Identity))
        .map_err(|_| KeyError::Kit("wrong passphrase, or a damaged file".into()))?;
    let mut text = Zeroizing::new(String::new());
    reader.read_to_string(&mut text).map_err(|why| failed(&why))?;
    let bytes = Zeroizing::new(unhex(&text).ok_or_else(|| KeyError::Kit("it holds no key".into()))?);
    let seed: [u8; 32] = bytes.as_slice().try_into().map_err(|_| KeyError::Kit("it holds no key".into()))?;
    Ok(Signer::from_seed(&seed))
}

impl Keys {
    /// Reads the working keys of a home, and refuses them when others can.
    pub fn read(folder: &Path) -> Result<Keys, KeyError> {
        let record = read_seed(folder, Role::Record)?;
        let example = is_example(&record);
        Ok(Keys {
            log: Signer::from_seed(&*read_seed(folder, Role::Log)?),
            transport: read_seed(folder, Role::Transport)?,
            witness: read_seed(folder, Role::Witness)?,
            record: Signer::from_seed(&record),
            example,
        })
    }

    /// The transport key's seed, for the network.
    pub fn transport_seed(&self) -> [u8; 32] {
        *self.transport
    }

    /// The key with which this node cosigns checkpoints of one followed feed: another one for each feed, so that nobody
    /// can tell who follows what, and another one after each restore, so that none ever signs two histories.
    pub fn witness(&self, origin: &str, epoch: u64) -> Signer {
        Signer::from_seed(&witness_seed(&self.witness, origin, epoch))
    }

    /// Whether these are published keys, which anybody can use: never off loopback.
    pub fn are_examples(&self) -> bool {
        self.example
    }
}

/// HMAC-SHA-256 (RFC 2104) of the feed under the witness secret.
fn witness_seed(secret: &[u8; 32], origin: &str, epoch: u64) -> Zeroizing<[u8; 32]> {
    let pad = |byte: u8| {
        let mut block = Zeroizing::new([byte; 64]);
        block.iter_mut().zip(secret).for_each(|(pad, secret)| *pad ^= secret);
        block
    };
    let message = format!("lotline witness v1\n{origin}\n{epoch}");
    let inner = lotline_schema::Hash::of(&[&*pad(0x36), message.as_bytes()]);
    Zeroizing::new(lotline_schema::Hash::of(&[&*pad(0x5c), &inner.0]).0)
}

fn is_example(record: &[u8; 32]) -> bool {
    EXAMPLES.iter().any(|name| lotline_schema::Hash::of(&[b"lotline example ", name.as_bytes(), b" record"]).0 == *record)
}

fn read_seed(folder: &Path, role: Role) -> Result<Zeroizing<[u8; 32]>, KeyError> {
    let path = folder.join(format!("{role}.key"));
    let read = |source| KeyError::Read { path: path.clone(), source };
    if platform::readable_by_others(&path).map_err(read)? {
        return Err(KeyError::Exposed(path));
    }
    let text = Zeroizing::new(std::fs::read_to_string(&path).map_err(read)?);
    let bytes = Zeroizing::new(unhex(text.trim_end()).ok_or_else(|| KeyError::Form(path.clone()))?);
    let seed: [u8; 32] = bytes.as_slice().try_into().map_err(|_| KeyError::Form(path))?;
    Ok(Zeroizing::new(seed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kit_opens_with_its_passphrase_alone() {
        let founding = Founding::new();
        let kit = founding.kit("ACME", "correct horse", 2).unwrap();
        assert_eq!(open_kit(&kit, "correct horse").unwrap().public(), founding.root.public());
        assert!(matches!(open_kit(&kit, "wrong horse"), Err(KeyError::Kit(_))));
        assert!(matches!(open_kit("no kit", "x"), Err(KeyError::Kit(_))));
    }

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

    #[test]
    fn published_keys_are_known() {
        let folder = tempfile::tempdir().unwrap();
        Founding::example("supplier").unwrap().write(folder.path()).unwrap();
        assert!(Keys::read(folder.path()).unwrap().are_examples());
    }
}
