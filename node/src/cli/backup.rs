//! `lotline backup` and `restore`: the whole home in one file, sealed with a passphrase (age over tar).
//!
//! A backup holds the journal, the keys, the configuration and the rule file; neither the index, which is rebuilt, nor
//! the seal, whose absence is how a restored home knows what it is.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use age::secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::init::{KIT_WORK_FACTOR, passphrase};
use super::{HomeVerb, confirmed};
use crate::answer::{Answer, Failure, exit};
use crate::config::{Home, HomeError};
use crate::desk::{self, Desk, show_progress};
use crate::platform;
use crate::service::{Service, now};

/// Flags of `backup`.
#[derive(clap::Args)]
#[command(after_help = "Example: lotline backup -o /media/stick/lotline-backup.age")]
pub struct BackupArgs {
    /// The file to write.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// A file whose first line is the passphrase (else it is asked for).
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// Cost of guessing the passphrase, as a power of two; tests lower it.
    #[arg(long, hide = true, default_value_t = KIT_WORK_FACTOR)]
    work_factor: u8,
}

/// Flags of `restore`.
#[derive(clap::Args)]
#[command(after_help = "Example: lotline restore /media/stick/lotline-backup.age --home D:\\Lotline\n         lotline restore --confirm")]
pub struct RestoreArgs {
    /// The backup.
    #[arg(required_unless_present = "confirm")]
    file: Option<PathBuf>,
    /// A file whose first line is the passphrase (else it is asked for).
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// You have looked at partners and rules of the restored home: sign and send again, in a new life of each feed.
    #[arg(long)]
    confirm: bool,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

/// Flags of the inner step of a backup.
#[derive(clap::Args, Serialize, Deserialize, Clone, Debug)]
pub struct CopyArgs {
    folder: PathBuf,
}

/// Copies the journal as it is durable now, beside a running node or without one.
pub(super) fn copy_journal(desk: &Desk, args: CopyArgs) -> Result<Answer, Failure> {
    let bytes = desk.handle.reader().copy_for_backup(&args.folder, &show_progress)?;
    Ok(Answer::new("", json!({ "bytes": bytes })))
}

/// Writes a backup.
pub fn backup(home: &Home, args: BackupArgs) -> Result<Answer, Failure> {
    home.config()?;
    if args.output.exists() {
        return Err(
            Failure::new(format!("`{}` exists already", args.output.display())).hint("a backup is never overwritten; give another name")
        );
    }
    let secret = passphrase(args.passphrase_file.as_deref(), "A passphrase for the backup")?;
    let folder = args.output.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let scratch = tempfile::Builder::new().prefix(".lotline-backup-").tempdir_in(folder)?;
    let copy = std::path::absolute(scratch.path().join("store"))?;
    desk::at_home(home.clone(), HomeVerb::CopyJournal(CopyArgs { folder: copy.clone() }))?;
    let mut sealed = tempfile::NamedTempFile::new_in(folder)?;
    write_sealed(home, &copy, sealed.as_file_mut(), secret, args.work_factor)?;
    sealed.as_file().sync_all()?;
    let bytes = sealed.as_file().metadata()?.len();
    sealed.persist_noclobber(&args.output).map_err(|why| Failure::new(why.error))?;
    platform::sync_folder(folder)?;
    let text = format!(
        "Backup written to {} ({bytes} bytes). Try it once: lotline restore {} --home SOME-EMPTY-FOLDER",
        args.output.display(),
        args.output.display()
    );
    Ok(Answer::new(text, json!({ "file": args.output, "bytes": bytes })))
}

fn write_sealed(home: &Home, store: &Path, out: &mut std::fs::File, secret: String, work_factor: u8) -> Result<(), Failure> {
    let mut recipient = age::scrypt::Recipient::new(SecretString::from(secret));
    recipient.set_work_factor(work_factor);
    let encryptor = age::Encryptor::with_recipients(std::iter::once(&recipient as &dyn age::Recipient)).map_err(Failure::new)?;
    let mut tar = tar::Builder::new(encryptor.wrap_output(out)?);
    // As plain files: an entry with holes is another type, which `restore` and many tools do not take.
    tar.sparse(false);
    tar.append_path_with_name(home.config_file(), "lotline.toml")?;
    tar.append_dir_all("keys", home.keys())?;
    if home.policy_file().exists() {
        tar.append_path_with_name(home.policy_file(), "policy.toml")?;
    }
    tar.append_dir_all("store", store)?;
    let mut writer = tar.into_inner()?;
    writer.flush()?;
    writer.finish()?;
    Ok(())
}

/// What to do when partners know the node under a transport key that is newer than the backup.
pub(super) const OLD_NAME: &str = "its transport key was rotated after the backup: send them the line of `lotline partner invite --offline`, which they \
    accept once more, and after the confirmation name a new key with `lotline keys rotate transport`";

/// Restores a backup into a new home, or confirms one.
pub fn restore(home: &Home, args: RestoreArgs) -> Result<Answer, Failure> {
    let Some(file) = args.file.filter(|_| !args.confirm) else {
        return confirm(home, args.yes);
    };
    if home.path().exists() && std::fs::read_dir(home.path())?.next().is_some() {
        return Err(Failure::from(HomeError::Exists(home.path().into()))
            .hint("a backup is restored into a new or empty folder; give one with --home"));
    }
    let secret = passphrase_once(args.passphrase_file.as_deref())?;
    let sealed =
        std::fs::File::open(&file).map_err(|why| Failure::new(format!("cannot read `{}`: {why}", file.display())).exit(exit::NOT_FOUND))?;
    let wrong = |why: &dyn std::fmt::Display| Failure::new(format!("`{}` does not open: {why}", file.display())).exit(exit::UNREADABLE);
    let decryptor = age::Decryptor::new(sealed).map_err(|why| wrong(&why).hint("is this a Lotline backup?"))?;
    let identity = age::scrypt::Identity::new(SecretString::from(secret));
    let reader =
        decryptor.decrypt(std::iter::once(&identity as &dyn age::Identity)).map_err(|_| wrong(&"wrong passphrase, or a damaged file"))?;
    // Unpacked beside the home and moved there whole: a file cut in the middle leaves no half home.
    let parent = home.path().parent().ok_or_else(|| Failure::new("the home has no parent folder"))?;
    std::fs::create_dir_all(parent)?;
    let scratch = tempfile::Builder::new().prefix(".lotline-restore-").tempdir_in(parent)?;
    unpack(reader, scratch.path()).map_err(|why| wrong(&why))?;
    if home.path().exists() {
        std::fs::remove_dir(home.path())?;
    }
    std::fs::rename(scratch.keep(), home.path())?;
    let service = Service::open(home.clone(), &show_progress)?;
    let (name, restored) = (service.handle.snapshot().name.clone(), service.opened.restored.is_some());
    service.close()?;
    let text = format!(
        "{name} is restored to {}.\nIt signs and sends nothing yet: what happened after the backup is missing here, and partners may have seen it.\n\
         First:   lotline run, until status shows your partners connected: they hand back what you stated about keys and feeds since\n\
         {}\n\
         Look at: lotline partner list, lotline policy show, lotline audit\nThen:    lotline restore --confirm   (each feed goes on in a new life, so that nobody is told two truths)",
        home.path().display(),
        format_args!("If they turn it away: {OLD_NAME}")
    );
    Ok(Answer::new(text, json!({ "home": home.path(), "name": name, "restored": restored })))
}

fn unpack(reader: impl Read, folder: &Path) -> std::io::Result<()> {
    let mut archive = tar::Archive::new(reader);
    archive.set_preserve_permissions(true);
    for entry in archive.entries()? {
        let mut entry = entry?;
        // `unpack_in` refuses paths that lead out of the folder; links have no business in a backup of ours.
        let plain = matches!(entry.header().entry_type(), tar::EntryType::Regular | tar::EntryType::Directory);
        if !plain || !entry.unpack_in(folder)? {
            return Err(std::io::Error::other("it holds something that is no part of a backup"));
        }
    }
    Ok(())
}

fn passphrase_once(file: Option<&Path>) -> Result<String, Failure> {
    match file {
        Some(_) => passphrase(file, ""),
        None => super::ask_secret("Passphrase of the backup")
            .ok_or_else(|| Failure::new("--passphrase-file is missing and there is no terminal to ask on").exit(exit::USAGE)),
    }
}

fn confirm(home: &Home, yes: bool) -> Result<Answer, Failure> {
    let service = Service::open(home.clone(), &show_progress)?;
    let outcome = confirm_with(&service, yes);
    service.close()?;
    outcome
}

fn confirm_with(service: &Service, yes: bool) -> Result<Answer, Failure> {
    let Some(why) = &service.opened.restored else {
        return Ok(Answer::new("This home was not restored; there is nothing to confirm.", json!({ "confirmed": false })));
    };
    if !confirmed(yes, &format!("This home was restored ({why}). Have you looked at partners and rules, and shall it sign and send again?"))
    {
        return Err(Failure::new("not confirmed; nothing is signed or sent").hint("add --yes to confirm without a question"));
    }
    let renewed = service.handle.with_blocking(|feeds| feeds.confirm_restored(now()))??;
    let names: Vec<String> = renewed.iter().map(|origin| format!("{}/{}", origin.name(), origin.n())).collect();
    let text = format!(
        "Confirmed. Each feed goes on in a new life: {}. Partners keep the old ones and see that a new one follows.",
        names.join(", ")
    );
    Ok(Answer::new(text, json!({ "confirmed": true, "feeds": renewed.iter().map(ToString::to_string).collect::<Vec<_>>() })))
}
