//! The command line: one file a verb. Verbs on a home run here or, when a node runs on that home, inside it.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use serde::{Deserialize, Serialize};

use crate::answer::{Answer, Failure, exit};
use crate::config::Home;
use crate::desk::{self, Desk};

mod against;
mod audit;
mod backup;
mod bundle;
mod captured;
mod carry;
mod doctor;
pub(crate) mod forget;
pub(crate) mod init;
pub(crate) mod input;
mod keys;
pub(crate) mod ledger;
pub(crate) mod lists;
mod members;
mod partner;
mod policy;
mod publish;
mod release;
mod request;
mod run;
mod share;
mod status;
mod subscribe;
mod terms;
pub(crate) mod verify;
mod withdraw;

/// Signed quality and traceability records, shared field by field with the partners you choose.
#[derive(Parser)]
#[command(
    name = "lotline",
    version,
    propagate_version = true,
    after_help = "Example: lotline demo\n         lotline init --name \"ACME GmbH\" && lotline run"
)]
struct Cli {
    /// The home of this node (else LOTLINE_HOME, else the platform's data folder).
    #[arg(long, global = true, env = "LOTLINE_HOME", value_name = "FOLDER")]
    home: Option<PathBuf>,
    /// Print JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
#[allow(clippy::large_enum_variant)] // one is made a run
enum Verb {
    /// Set up a home: keys, name, recovery kit.
    Init(init::Args),
    /// Run the node: exchange with partners, local page and API.
    Run(run::Args),
    /// A named person releases a record: countersigns it with a key and passphrase of its own.
    Release(release::Args),
    /// Verify a bundle: no home, no node, no network.
    Verify(verify::Args),
    /// Write a backup of the home (sealed with a passphrase), beside a running node or without one.
    Backup(backup::BackupArgs),
    /// Restore a backup into a new home, or confirm a restored one.
    Restore(backup::RestoreArgs),
    /// See it work: a supplier, two OEMs and a competitor on this computer, with real data.
    #[command(after_help = "Example: lotline demo --keep demo-homes")]
    Demo(crate::demo::Args),
    /// Measure speed and memory on this computer, against a baseline in the same run.
    #[command(after_help = "Example: lotline bench --records 100000")]
    Bench(crate::bench::Args),
    /// Print shell completions.
    Completions {
        /// bash, zsh, fish, powershell or elvish.
        shell: clap_complete::Shell,
    },
    #[command(flatten)]
    Home(HomeVerb),
}

/// Verbs that work on a home: beside a running node, or without one.
#[derive(Subcommand, Serialize, Deserialize, Clone, Debug)]
#[allow(clippy::large_enum_variant)] // one is made a run
pub enum HomeVerb {
    /// How this node stands: feeds, partners, connections, sharing.
    #[command(after_help = "Example: lotline status")]
    Status(status::Args),
    /// Look for what is in the way, and say what to do.
    #[command(subcommand)]
    #[command(after_help = "Example: lotline doctor net")]
    Doctor(doctor::Verb),
    /// Check, sign and publish a measuring file.
    Publish(publish::Args),
    /// Partners: invite, accept, list, vouch for, remove.
    #[command(subcommand)]
    #[command(after_help = "Example: lotline partner invite\n         lotline partner accept K7M-4QX-9TP oem.example:4001")]
    Partner(partner::Verb),
    /// Stop or resume sharing without touching any file.
    #[command(subcommand)]
    #[command(after_help = "Example: lotline share stop oem-a\n         lotline share resume")]
    Share(share::Verb),
    /// Requirements of customers: sign, answer, take the answer, see which are met.
    #[command(subcommand)]
    #[command(
        after_help = "Example: lotline request sign requirements.toml -o requirements.lotline\n         lotline request answer requirements.lotline\n         lotline request status"
    )]
    Request(request::Verb),
    /// The sharing rules: check, apply, show, explain, preview.
    #[command(subcommand)]
    #[command(after_help = "Example: lotline policy check\n         lotline policy apply\n         lotline policy explain L-2026-11 oem-a")]
    Policy(policy::Verb),
    /// Follow what a partner offers; state what for, and accept its terms.
    #[command(after_help = "Example: lotline subscribe supplier\n         lotline subscribe supplier --for audit --accept-terms all")]
    Subscribe(subscribe::Args),
    /// Terms that partners ask for and you ask for: which, accepted since when. Takes an acceptance back.
    Terms(terms::Args),
    /// Feeds written and followed here.
    #[command(after_help = "Example: lotline feeds")]
    Feeds(lists::FeedsArgs),
    /// Records here, newest first.
    #[command(after_help = "Example: lotline records --lot L-2026-11")]
    Records(lists::RecordsArgs),
    /// One record, as far as it can be seen here.
    #[command(after_help = "Example: lotline show L-2026-11")]
    Show(lists::ShowArgs),
    /// Put everything an auditor needs about a lot into one file.
    Bundle(bundle::Args),
    /// Write what a partner may see into a file, for a stick or an e-mail.
    Carry(carry::CarryArgs),
    /// Take in a carried file, or the answer to one.
    Receive(carry::ReceiveArgs),
    /// Re-read and re-verify the whole store. Repairs nothing.
    #[command(
        after_help = "Example: lotline audit\n         lotline audit --against from-another-customer.lotline\n         lotline audit --ledger --captured traffic.capture"
    )]
    Audit(audit::Args),
    /// Withdraw a record of yours: it stays provable, and every verdict says so.
    Withdraw(withdraw::WithdrawArgs),
    /// Forget fields in this home for good: of a lot, of a person, or what is past its time. What is signed stays.
    Forget(forget::Args),
    /// Let a frozen feed go on, after talking to its owner.
    Thaw(withdraw::ThawArgs),
    /// Write the proof that somebody signed two truths.
    ForkProof(against::Args),
    /// What left, to whom, when, under which rules.
    Ledger(ledger::Args),
    /// The keys of this organisation: show, rotate, revoke, name a successor, delegate, attest.
    #[command(subcommand)]
    #[command(after_help = "Example: lotline keys show\n         lotline keys rotate record --kit /media/stick/lotline-kit.txt")]
    Keys(keys::Verb),
    /// Lists of members, signed by their association.
    #[command(subcommand)]
    #[command(after_help = "Example: lotline members sign members.toml -o members.lotline")]
    Members(members::Verb),
    /// What `release` asks of the home.
    #[command(subcommand, hide = true)]
    ReleaseStep(release::Step),
    /// Copy the journal into a folder: a step of `backup`.
    #[command(hide = true)]
    CopyJournal(backup::CopyArgs),
}

impl HomeVerb {
    /// Does it at a desk.
    pub fn perform(self, desk: &Desk) -> Result<Answer, Failure> {
        match self {
            HomeVerb::Status(args) => status::run(desk, args),
            HomeVerb::Doctor(verb) => doctor::run(desk, verb),
            HomeVerb::Publish(args) => publish::run(desk, args),
            HomeVerb::Partner(verb) => partner::run(desk, verb),
            HomeVerb::Share(verb) => share::run(desk, verb),
            HomeVerb::Request(verb) => request::run(desk, verb),
            HomeVerb::Policy(verb) => policy::run(desk, verb),
            HomeVerb::Subscribe(args) => subscribe::run(desk, args),
            HomeVerb::Terms(args) => terms::run(desk, args),
            HomeVerb::Feeds(args) => lists::feeds(desk, args),
            HomeVerb::Records(args) => lists::records(desk, args),
            HomeVerb::Show(args) => lists::show(desk, args),
            HomeVerb::Bundle(args) => bundle::run(desk, args),
            HomeVerb::Carry(args) => carry::carry(desk, args),
            HomeVerb::Receive(args) => carry::receive(desk, args),
            HomeVerb::Audit(args) => audit::run(desk, args),
            HomeVerb::Withdraw(args) => withdraw::withdraw(desk, args),
            HomeVerb::Forget(args) => forget::run(desk, args),
            HomeVerb::Thaw(args) => withdraw::thaw(desk, args),
            HomeVerb::ForkProof(args) => against::fork_proof(desk, args),
            HomeVerb::Ledger(args) => ledger::run(desk, args),
            HomeVerb::Keys(verb) => keys::run(desk, verb),
            HomeVerb::Members(verb) => members::run(desk, verb),
            HomeVerb::ReleaseStep(step) => release::step(desk, step),
            HomeVerb::CopyJournal(args) => backup::copy_journal(desk, args),
        }
    }

    /// The verb as it is typed, without its flags: for the audit log, which holds no content.
    pub(crate) fn name(&self) -> String {
        let mut value = serde_json::to_value(self).unwrap_or_default();
        let mut words = Vec::new();
        // A verb is {"Keys": {"Show": ..}}, or {"Status": {..}} with flags in lower case.
        while let Some((word, inner)) =
            value.as_object().and_then(|object| object.iter().next()).map(|(word, inner)| (word.clone(), inner.clone()))
        {
            if !word.starts_with(char::is_uppercase) {
                break;
            }
            words.push(word);
            value = inner;
        }
        words.extend(value.as_str().map(str::to_owned));
        words.join(" ").to_lowercase()
    }

    /// Verbs that are about a file alone: done here, with or without a home.
    fn without_home(&self) -> Option<Result<Answer, Failure>> {
        match self {
            HomeVerb::Keys(verb) => verb.without_home(),
            _ => None,
        }
    }

    /// Paths as the running node must see them: it has another working folder.
    fn made_absolute(mut self) -> HomeVerb {
        let absolute = |path: &mut PathBuf| {
            if let Ok(full) = std::path::absolute(&*path) {
                *path = full;
            }
        };
        match &mut self {
            HomeVerb::Publish(args) => args.paths().into_iter().for_each(absolute),
            HomeVerb::Request(verb) => verb.paths().into_iter().for_each(absolute),
            HomeVerb::Policy(verb) => verb.paths().into_iter().for_each(absolute),
            HomeVerb::Bundle(args) => absolute(&mut args.output),
            HomeVerb::ForkProof(args) => absolute(&mut args.output),
            HomeVerb::Carry(args) => absolute(&mut args.output),
            HomeVerb::Receive(args) => std::iter::once(&mut args.file).chain(&mut args.output).for_each(absolute),
            HomeVerb::Audit(args) => args.against.iter_mut().chain(&mut args.captured).for_each(absolute),
            HomeVerb::Partner(verb) => verb.paths().into_iter().for_each(absolute),
            HomeVerb::Members(verb) => verb.paths().into_iter().for_each(absolute),
            HomeVerb::Keys(verb) => verb.paths().into_iter().for_each(absolute),
            _ => {}
        }
        self
    }
}

/// The whole program.
pub fn main() -> ExitCode {
    // Two TLS providers may be in the tree; which one is used is said before anything else runs.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { exit::USAGE } else { 0 });
        }
    };
    let (json, outcome) = (cli.json, perform(cli));
    let (exit, text) = match &outcome {
        Ok(answer) if json => (answer.exit, answer.to_json().to_string()),
        Ok(answer) => (answer.exit, answer.text.clone()),
        Err(failure) if json => (failure.exit, failure.to_json().to_string()),
        Err(failure) => {
            eprintln!("{failure}");
            return ExitCode::from(failure.exit);
        }
    };
    if !text.is_empty() {
        // A closed pipe (`lotline … | head`) is no failure of ours.
        let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
    }
    ExitCode::from(exit)
}

fn perform(cli: Cli) -> Result<Answer, Failure> {
    let home = || Home::at(cli.home.as_deref()).map_err(Failure::from);
    match cli.verb {
        Verb::Init(args) => init::run(&home()?, args),
        Verb::Run(args) => run::run(home()?, args),
        Verb::Release(args) => release::run(&home()?, args),
        Verb::Verify(args) => verify::run(args),
        Verb::Backup(args) => backup::backup(&home()?, args),
        Verb::Restore(args) => backup::restore(&home()?, args),
        Verb::Demo(args) => crate::demo::run(args, cli.json),
        Verb::Bench(args) => crate::bench::run(args, cli.json),
        Verb::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut <Cli as clap::CommandFactory>::command(), "lotline", &mut script);
            let text = String::from_utf8_lossy(&script).into_owned();
            Ok(Answer::new(text.clone(), serde_json::json!({ "script": text })))
        }
        Verb::Home(verb) => match verb.without_home() {
            Some(answer) => answer,
            None if let Some(answer) = partner::at_terminal(&home()?, &verb) => answer,
            None => match release::wanted(&verb) {
                Some((by, secret)) => release::publish_and_release(&home()?, &by, secret.as_deref(), verb.made_absolute()),
                None => desk::at_home(home()?, verb.made_absolute()),
            },
        },
    }
}

/// Every subcommand and flag, for tests that read documents and compose files.
pub fn command() -> clap::Command {
    <Cli as clap::CommandFactory>::command()
}

/// Asks a question on the terminal; none when there is no terminal to ask on.
pub(crate) fn ask(question: &str, example: &str) -> Option<String> {
    if !std::io::stdin().is_terminal() {
        return None;
    }
    let hint = if example.is_empty() { String::new() } else { format!(" [{example}]") };
    eprint!("{question}{hint}: ");
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).ok()?;
    let answer = answer.trim();
    Some(if answer.is_empty() { example.to_owned() } else { answer.to_owned() })
}

/// Asks for a secret without showing it.
pub(crate) fn ask_secret(question: &str) -> Option<String> {
    if !std::io::stdin().is_terminal() {
        return None;
    }
    rpassword::prompt_password(format!("{question}: ")).ok()
}

/// Asks for a yes where somebody can answer: a verb done inside a running node must not ask on that node's terminal.
pub(crate) fn confirmed_at(desk: &Desk, flag: bool, question: &str) -> bool {
    flag || desk.board.is_none() && confirmed(false, question)
}

/// Asks for a yes; without a terminal only the flag says it.
pub(crate) fn confirmed(flag: bool, question: &str) -> bool {
    flag || ask(&format!("{question} (yes/no)"), "no").is_some_and(|answer| matches!(answer.as_str(), "y" | "yes" | "j" | "ja"))
}
