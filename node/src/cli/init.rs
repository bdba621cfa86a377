//! `lotline init`: at most five questions, each also a flag; keys, configuration, recovery kit.

use std::collections::BTreeMap;
use std::path::PathBuf;

use lotline_schema::org::About;
use serde_json::json;

use super::{ask, ask_secret};
use crate::answer::{Answer, Failure, exit};
use crate::config::{Config, Home, HomeError};
use crate::feeds::{Feeds, Founded};
use crate::keys::{Founding, Keys};
use crate::platform;
use crate::service::now;

/// Flags of `init`.
#[derive(clap::Args, Default)]
#[command(after_help = "Example: lotline init --name \"ACME GmbH\" --kit /media/stick/lotline-kit.txt")]
pub struct Args {
    /// Question 1: what your organisation is called; partners see it.
    #[arg(long)]
    pub name: Option<String>,
    /// Question 2: a TCP address to listen on for partners, as 0.0.0.0:4001; none dials out only and needs no open port.
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Vec<String>,
    /// Question 3: where to write the recovery kit, best on a stick that goes into the safe.
    #[arg(long, value_name = "FILE")]
    pub kit: Option<PathBuf>,
    /// Question 4: a file whose first line is the kit's passphrase (else it is asked for).
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
    /// Question 5: an address partners reach you under when it is another than --listen (a firewall's, a DNS name).
    #[arg(long, value_name = "ADDRESS")]
    pub announce: Vec<String>,
    /// A registered id of yours, as vat=DE123456789 or duns=123456789; it stands in your keyring for good. Nobody has checked it.
    #[arg(long, value_name = "KIND=ID")]
    pub id: Vec<String>,
    /// Write the kit's sealed key as a QR code too (SVG), for a printer.
    #[arg(long, value_name = "FILE")]
    pub qr: Option<PathBuf>,
    /// Take the published keys of an example identity: for tests, on loopback only.
    #[arg(long, hide = true)]
    pub example: Option<String>,
    /// Cost of guessing the passphrase, as a power of two; tests lower it.
    #[arg(long, hide = true, default_value_t = KIT_WORK_FACTOR)]
    pub kit_work_factor: u8,
}

/// scrypt with N = 2^17: about half a second on an office computer.
pub(crate) const KIT_WORK_FACTOR: u8 = 17;
/// The shortest passphrase for a kit or backup.
const PASSPHRASE_MIN: usize = 8;

/// Sets up a home.
pub fn run(home: &Home, args: Args) -> Result<Answer, Failure> {
    if home.exists() {
        return Err(HomeError::Exists(home.path().into()).into());
    }
    let about = About { ids: read_ids(&args.id)?, ..About::default() };
    let question = |flag: &str| Failure::new(format!("{flag} is missing and there is no terminal to ask on")).exit(exit::USAGE);
    let name =
        args.name.or_else(|| ask("What is your organisation called? Partners see this name", "")).filter(|name| !name.trim().is_empty());
    let name = name.ok_or_else(|| question("--name"))?;
    let listen = match args.listen.is_empty() {
        false => args.listen,
        true => ask("TCP address to listen on for partners (empty: dial out only, no open port needed)", "")
            .filter(|address| !address.is_empty())
            .into_iter()
            .collect(),
    };
    let default_kit = format!("lotline-recovery-kit-{}.txt", slug(&name));
    let kit = args.kit.or_else(|| ask("Where to write the recovery kit (best on a stick)", &default_kit).map(PathBuf::from));
    let kit = kit.ok_or_else(|| question("--kit"))?;
    if kit.exists() {
        return Err(Failure::new(format!("`{}` exists already; a recovery kit is never overwritten", kit.display()))
            .hint("give another file with --kit"));
    }
    let passphrase =
        zeroize::Zeroizing::new(passphrase(args.passphrase_file.as_deref(), "A passphrase for the kit (write it down elsewhere)")?);
    let announce = match args.announce.is_empty() && !listen.is_empty() {
        true => ask("Address partners reach you under, when it is another one (empty: the same)", "")
            .filter(|address| !address.is_empty())
            .into_iter()
            .collect(),
        false => args.announce,
    };
    for address in listen.iter().chain(&announce) {
        address
            .parse::<crate::net::Address>()
            .map_err(|why| Failure::new(why).exit(exit::USAGE).hint("write host:port, as 0.0.0.0:4001"))?;
    }
    let config = Config { listen, announce, ..Config::new(&name) };
    let founding = match args.example.as_deref() {
        None => Founding::new(),
        Some(example) => Founding::example(example).ok_or_else(|| {
            Failure::new(format!("there is no example identity `{example}`"))
                .exit(exit::USAGE)
                .hint(format!("there are {}", crate::keys::EXAMPLES.join(", ")))
        })?,
    };
    found(home, &config, &founding, about)?;
    let text = founding.kit(&name, &passphrase, args.kit_work_factor).map_err(Failure::new)?;
    platform::write_secret(&kit, text.to_text().as_bytes()).map_err(|why| {
        // Without its kit a home has no future: leave nothing half made.
        let _ = std::fs::remove_file(home.config_file());
        Failure::new(format!("cannot write the recovery kit `{}`: {why}", kit.display()))
            .hint("nothing was set up; try another place with --kit")
    })?;
    if let Some(qr) = &args.qr {
        let why = |why: std::io::Error| Failure::new(format!("cannot write `{}`: {why}", qr.display()));
        let later = "the home is set up; make the picture with: lotline keys show --kit FILE --qr FILE";
        platform::write_secret(qr, text.picture().to_svg().as_bytes()).map_err(|error| why(error).hint(later))?;
    }
    let party = founding.party();
    Ok(Answer::new(
        format!(
            "{name} is set up in {}\n  identity    {party}\n  six words   {}\n  recovery    {} (keep it away from this computer)\n\n\
             Next: lotline run              the node, with its page\n      lotline partner invite   a code for a partner\n      lotline publish FILE …   check, sign and publish a measuring file",
            home.path().display(),
            party.six_words(),
            kit.display(),
        ),
        json!({ "name": name, "identity": party.to_string(), "six_words": party.six_words(), "home": home.path(), "recovery_kit": kit }),
    ))
}

/// Writes keys, store and configuration; the configuration last, since it is what makes a folder a home.
pub(crate) fn found(home: &Home, config: &Config, founding: &Founding, about: About) -> Result<(), Failure> {
    platform::create_private_folder(home.path())?;
    founding.write(&home.keys()).map_err(Failure::new)?;
    let keys = Keys::read(&home.keys()).map_err(Failure::new)?;
    if home.store().join("journal").exists() {
        // Left by an init that was interrupted before it wrote the configuration: nothing was ever signed with it.
        std::fs::remove_dir_all(home.store())?;
    }
    std::fs::create_dir_all(home.store())?;
    Feeds::found(&home.store(), Founded { name: &config.name, founding, keys: &keys, about }, now())?;
    Ok(home.write_config(config)?)
}

/// A passphrase from a file's first line or from the terminal, asked for twice.
pub(crate) fn passphrase(file: Option<&std::path::Path>, question: &str) -> Result<String, Failure> {
    let passphrase = match file {
        Some(file) => {
            let text = std::fs::read_to_string(file).map_err(|why| Failure::new(format!("cannot read `{}`: {why}", file.display())))?;
            let text = zeroize::Zeroizing::new(text);
            text.lines().next().unwrap_or_default().to_owned()
        }
        None => {
            let missing = || Failure::new("--passphrase-file is missing and there is no terminal to ask on").exit(exit::USAGE);
            let first = ask_secret(question).ok_or_else(missing)?;
            if ask_secret("   once more").ok_or_else(missing)? != first {
                return Err(Failure::new("the two passphrases differ").exit(exit::USAGE));
            }
            first
        }
    };
    if passphrase.chars().count() < PASSPHRASE_MIN {
        return Err(Failure::new(format!("the passphrase has fewer than {PASSPHRASE_MIN} characters"))
            .exit(exit::USAGE)
            .hint("four ordinary words are easy to write down and hard to guess"));
    }
    Ok(passphrase)
}

/// Registered ids from flags: the kind in capitals, as registers write it.
pub(super) fn read_ids(flags: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    const IDS_MAX: usize = 32;
    const BYTES_MAX: usize = 255;
    let wrong = |flag: &str| {
        Failure::new(format!("`{flag}` is no registered id")).exit(exit::USAGE).hint("write kind and id, as --id vat=DE123456789")
    };
    let mut ids = BTreeMap::new();
    for flag in flags {
        let (kind, id) = flag.split_once('=').map(|(kind, id)| (kind.trim(), id.trim())).ok_or_else(|| wrong(flag))?;
        let named = !kind.is_empty() && kind.len() <= 32 && kind.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        if !named || id.is_empty() || id.len() > BYTES_MAX || id.chars().any(char::is_control) || ids.len() == IDS_MAX {
            return Err(wrong(flag));
        }
        if ids.insert(kind.to_ascii_uppercase(), id.to_owned()).is_some() {
            return Err(Failure::new(format!("two ids of the kind `{kind}`")).exit(exit::USAGE));
        }
    }
    Ok(ids)
}

fn slug(name: &str) -> String {
    let kept: String = name.to_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    kept.split('-').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-")
}
