//! `lotline demo`: a supplier, two customers and a competitor on this computer, as separate processes, with real data.
//!
//! Everything it does is done by the program's own commands, as a user would type them; the story prints what they
//! answered. The measurements are NIST's (integration/fixtures/SOURCE.md): twenty machined plates, nineteen of which
//! fail their first-article inspection, and twenty covers, one of which fails.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::answer::{Answer, Failure, exit};

/// Flags of `demo`.
#[derive(clap::Args)]
pub struct Args {
    /// Keep the four homes in this folder, to look at and go on with.
    #[arg(long, value_name = "FOLDER")]
    keep: Option<PathBuf>,
}

const PLATE: &str = include_str!("../../integration/fixtures/plate_fair_long.csv");
const COVER: &str = include_str!("../../integration/fixtures/cover_fair_long.csv");
const PLATE_LOT: &str = "PLATE-2017-07-11";
const COVER_LOT: &str = "COVER-2017-07-18";
/// Cheap: the demo's recovery kits protect nothing.
const KIT_WORK_FACTOR: &str = "10";
/// How long the demo waits for something to arrive before it says that it failed.
const PATIENCE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(15);

const POLICY: &str = r#"# Who sees what. Nothing is shared unless a share says so; a never always wins.

# OEM A buys plates and covers: it sees the whole inspection, values included, but not how we make them.
[[share]]
name  = "oem-a-full-inspection"
with  = "oem-a"
feed  = "quality"
parts = "all"
show  = ["identity", "specification", "verdict", "capability", "measurements"]
until = "revoked"

# OEM B sees lot, verdict and capability. Never a raw value.
[[share]]
name  = "oem-b-lot-verdict-cpk"
with  = "oem-b"
feed  = "quality"
parts = "all"
show  = ["lot", "part", "role", "recorded_at", "verdict", "capability"]
until = "revoked"

[[never]]
name = "no-raw-values-to-oem-b"
with = "oem-b"
show = ["measurements"]

# The competitor is paired (say, for another project) and sees nothing at all.
[[never]]
name = "nothing-to-the-competitor"
with = "competitor"
show = "everything"
"#;

/// Tells the story.
pub fn run(args: Args, json: bool) -> Result<Answer, Failure> {
    let mut stage = Stage::set(args, json)?;
    let outcome = stage.play();
    // The nodes end with their standard input; they are waited for whatever happened.
    for node in &mut stage.nodes {
        drop(node.child.stdin.take());
    }
    for node in &mut stage.nodes {
        let _ = node.child.wait();
    }
    let facts = outcome?;
    let text = stage.farewell();
    let mut json = json!({ "seconds": stage.start.elapsed().as_secs_f64(), "folder": stage.kept() });
    for (key, value) in facts {
        json[key] = value;
    }
    Ok(Answer::new(text, json))
}

struct Node {
    child: Child,
}

struct Stage {
    exe: PathBuf,
    folder: PathBuf,
    _temporary: Option<tempfile::TempDir>,
    json: bool,
    start: Instant,
    nodes: Vec<Node>,
}

type Facts = Vec<(&'static str, Value)>;

impl Stage {
    fn set(args: Args, json: bool) -> Result<Stage, Failure> {
        let (folder, temporary) = match args.keep {
            Some(folder) => {
                if folder.join("supplier").exists() {
                    return Err(Failure::new(format!("`{}` holds a demo already", folder.display()))
                        .exit(exit::USAGE)
                        .hint("give another folder"));
                }
                std::fs::create_dir_all(&folder)?;
                (std::path::absolute(folder)?, None)
            }
            None => {
                let temporary = tempfile::Builder::new().prefix("lotline-demo-").tempdir()?;
                (temporary.path().to_path_buf(), Some(temporary))
            }
        };
        Ok(Stage { exe: std::env::current_exe()?, folder, _temporary: temporary, json, start: Instant::now(), nodes: Vec::new() })
    }

    fn kept(&self) -> Option<&Path> {
        self._temporary.is_none().then_some(self.folder.as_path())
    }

    fn home(&self, who: &str) -> PathBuf {
        self.folder.join(who)
    }

    /// A line of the story: on stdout, or beside the JSON on stderr.
    fn say(&self, line: impl AsRef<str>) {
        let line = line.as_ref();
        let _ = if self.json { writeln!(std::io::stderr(), "{line}") } else { writeln!(std::io::stdout(), "{line}") };
    }

    fn chapter(&self, title: &str) {
        self.say(format!("\n[{:5.1} s] {title}", self.start.elapsed().as_secs_f64()));
    }

    /// Runs one of the program's own commands and takes its JSON; any exit code in `fine` is as expected.
    fn call_with(&self, who: Option<&str>, args: &[&str], fine: &[i32]) -> Result<Value, Failure> {
        let mut command = Command::new(&self.exe);
        if let Some(who) = who {
            command.arg("--home").arg(self.home(who));
        }
        command.args(args).arg("--json").env_remove("LOTLINE_HOME").stdin(Stdio::null());
        let output = command.output()?;
        let code = output.status.code().unwrap_or(-1);
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        if fine.contains(&code) {
            return Ok(answer);
        }
        let why = answer["error"].as_str().map_or_else(|| String::from_utf8_lossy(&output.stderr).trim().to_owned(), str::to_owned);
        Err(Failure::new(format!("the demo's `lotline {}` ended with code {code}: {why}", args.join(" "))))
    }

    fn call(&self, who: &str, args: &[&str]) -> Result<Value, Failure> {
        self.call_with(Some(who), args, &[0])
    }

    /// Waits until `ready` says so.
    fn wait(&self, what: &str, mut ready: impl FnMut() -> Result<bool, Failure>) -> Result<Duration, Failure> {
        let start = Instant::now();
        loop {
            if ready()? {
                return Ok(start.elapsed());
            }
            if start.elapsed() > PATIENCE {
                return Err(Failure::new(format!("the demo waited {} s in vain: {what}", PATIENCE.as_secs())));
            }
            std::thread::sleep(POLL);
        }
    }

    fn play(&mut self) -> Result<Facts, Failure> {
        self.say("Lotline demo: four firms on this computer, four separate programs, talking over TCP on 127.0.0.1 only.");
        self.say("The measurements are real: NIST Smart Manufacturing Systems Test Bed (US government work, public domain).");
        let mut facts = Facts::new();
        self.found_firms()?;
        let identity = self.pair()?;
        facts.push(("identity", json!(identity)));
        self.first_article(&mut facts)?;
        self.share(&mut facts)?;
        self.views(&mut facts)?;
        self.live(&mut facts)?;
        self.competitor(&mut facts)?;
        self.auditor(&identity, &mut facts)?;
        self.revoke(&mut facts)?;
        Ok(facts)
    }

    fn found_firms(&mut self) -> Result<(), Failure> {
        self.chapter("Four firms set up a node each. No server, no account, no open port at the supplier.");
        let secret = self.folder.join("passphrase.txt");
        std::fs::write(&secret, "only a demonstration\n")?;
        let secret = secret.to_string_lossy().into_owned();
        for (who, name, listen) in [
            ("supplier", "Brandt Precision (demo)", None),
            ("oem-a", "OEM A (demo)", Some("127.0.0.1:0")),
            ("oem-b", "OEM B (demo)", Some("127.0.0.1:0")),
            ("competitor", "Competitor (demo)", Some("127.0.0.1:0")),
        ] {
            let kit = self.folder.join(format!("recovery-kit-{who}.txt")).to_string_lossy().into_owned();
            let mut args = vec!["init", "--name", name, "--kit", &kit, "--passphrase-file", &secret, "--kit-work-factor", KIT_WORK_FACTOR];
            if let Some(listen) = listen {
                args.extend(["--listen", listen]);
            }
            let set_up = self.call(who, &args)?;
            self.say(format!("  {name:<24} {}", set_up["six_words"].as_str().unwrap_or_default()));
            let child = Command::new(&self.exe)
                .arg("--home")
                .arg(self.home(who))
                .args(["run", "--until-stdin-ends"])
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(std::fs::File::create(self.folder.join(format!("{who}.log")))?)
                .spawn()?;
            self.nodes.push(Node { child });
        }
        for who in ["supplier", "oem-a", "oem-b", "competitor"] {
            self.wait("a node to start", || Ok(self.home(who).join("run.json").exists()))?;
        }
        Ok(())
    }

    fn pair(&self) -> Result<String, Failure> {
        self.chapter("Each customer and the supplier exchange one line (by mail, say). It carries no secret and no right.");
        let invite = |who| -> Result<String, Failure> {
            Ok(self.call(who, &["partner", "invite", "--offline"])?["invitation"].as_str().unwrap_or_default().to_owned())
        };
        let supplier = invite("supplier")?;
        for who in ["oem-a", "oem-b", "competitor"] {
            self.call(who, &["partner", "accept", &supplier, "--as", "supplier", "--subscribe"])?;
            self.call("supplier", &["partner", "accept", &invite(who)?, "--as", who])?;
        }
        let waited = self.wait("the partners to connect", || {
            let status = self.call("supplier", &["status"])?;
            let partners = status["partners"].as_array().cloned().unwrap_or_default();
            Ok(partners.len() == 3 && partners.iter().all(|partner| partner["connected"] == json!(true)))
        })?;
        self.say(format!("  the supplier dialled out to all three and is connected ({} ms)", waited.as_millis()));
        Ok(self.call("supplier", &["keys", "show"])?["identity"].as_str().unwrap_or_default().to_owned())
    }

    fn first_article(&self, facts: &mut Facts) -> Result<(), Failure> {
        self.chapter("The supplier publishes the first-article inspection of its plates: 20 pieces, 38 characteristics, 760 values.");
        let file = self.folder.join("plate_fair_long.csv");
        std::fs::write(&file, PLATE)?;
        let file = file.to_string_lossy().into_owned();
        let start = Instant::now();
        let published = self.call(
            "supplier",
            &[
                "publish",
                &file,
                "--lot",
                PLATE_LOT,
                "--part",
                "NIST-PLATE",
                "--feed",
                "quality",
                "--reason",
                "first article",
                "--verdict",
                "non-conforming",
                "--special",
                "Flatness Datum A,Cone Angle 1",
                "--order",
                "FAIR-1",
            ],
        )?;
        let records = self.call("supplier", &["records", "--lot", PLATE_LOT])?;
        let record = &records["records"][0];
        self.say(format!(
            "  lot {PLATE_LOT}: {} of {} pieces fail. It goes out as what it is: {} (signed and durable in {} ms, {} bytes)",
            record["nonconforming"],
            record["inspected"],
            record["verdict"].as_str().unwrap_or_default(),
            start.elapsed().as_millis(),
            published["published"][0]["bytes"],
        ));
        facts.push(("plate", json!({ "nonconforming": record["nonconforming"], "inspected": record["inspected"], "verdict": record["verdict"], "bytes": published["published"][0]["bytes"] })));
        Ok(())
    }

    fn share(&self, facts: &mut Facts) -> Result<(), Failure> {
        self.chapter("Nobody sees it yet. The supplier writes two shares and two nevers, and puts them in force.");
        std::fs::write(self.home("supplier").join("policy.toml"), POLICY)?;
        let applied = self.call("supplier", &["policy", "apply", "--yes"])?;
        for change in applied["changes"].as_array().into_iter().flatten() {
            self.say(format!("  {}", change.as_str().unwrap_or_default()));
        }
        let waited =
            self.wait("the plate lot to arrive at both customers", || Ok(self.has("oem-a", PLATE_LOT)? && self.has("oem-b", PLATE_LOT)?))?;
        self.say(format!("  verified and stored by OEM A and OEM B {} ms later", waited.as_millis()));
        facts.push(("catch_up_ms", json!(waited.as_millis() as u64)));
        Ok(())
    }

    fn has(&self, who: &str, lot: &str) -> Result<bool, Failure> {
        Ok(self.call(who, &["records", "--lot", lot])?["records"].as_array().is_some_and(|records| !records.is_empty()))
    }

    fn views(&self, facts: &mut Facts) -> Result<(), Failure> {
        self.chapter("One signature, two views of the same record:");
        let mut views = serde_json::Map::new();
        for who in ["oem-a", "oem-b"] {
            let record = self.call(who, &["show", PLATE_LOT])?["record"]["fields"].clone();
            let state = |name: &str| record[name]["state"].as_str().unwrap_or("?").to_owned();
            let mut line = format!("  {who}: ");
            for name in
                ["lot", "verdict_recomputed", "special_statistics", "special_characteristics", "special_values", "other_values", "machine"]
            {
                let _ = write!(line, "{name} {}  ", if state(name) == "shown" { "shown" } else { state(name).leak() });
            }
            self.say(line.trim_end());
            let shown = |name: &str| state(name) == "shown";
            let expected = if who == "oem-a" {
                shown("special_values")
            } else {
                state("special_values") == "hidden" && state("other_values") == "hidden"
            };
            if !(expected && shown("lot") && shown("verdict_recomputed") && shown("special_statistics")) {
                return Err(Failure::new(format!("{who} does not see exactly what the rules say")));
            }
            if who == "oem-b" {
                let cpk = record["special_statistics"]["rows"][1][8].clone();
                self.say(format!(
                    "         OEM B reads Cpk {} of the second special characteristic (a cone angle out of tolerance), and no value behind it",
                    cpk.as_str().unwrap_or("–")
                ));
            }
            views.insert(who.into(), record);
        }
        let shown =
            |who: &str| views[who].as_object().map_or(0, |fields| fields.values().filter(|field| field["state"] != "hidden").count());
        facts.push(("fields_shown", json!({ "oem-a": shown("oem-a"), "oem-b": shown("oem-b") })));
        Ok(())
    }

    fn live(&self, facts: &mut Facts) -> Result<(), Failure> {
        self.chapter("While everybody is connected, the cover lot comes off the measuring machine.");
        let file = self.folder.join("cover_fair_long.csv");
        std::fs::write(&file, COVER)?;
        let file = file.to_string_lossy().into_owned();
        self.call(
            "supplier",
            &["publish", &file, "--lot", COVER_LOT, "--part", "NIST-COVER", "--feed", "quality", "--special", "Flatness 1"],
        )?;
        let waited = self.wait("the cover lot to arrive live", || Ok(self.has("oem-a", COVER_LOT)? && self.has("oem-b", COVER_LOT)?))?;
        let record = self.call("oem-b", &["records", "--lot", COVER_LOT])?["records"][0].clone();
        self.say(format!(
            "  lot {COVER_LOT}: {} of {} pieces fails ({}); at both customers, verified and durable, {} ms after the supplier's prompt came back",
            record["nonconforming"], record["inspected"], record["verdict"].as_str().unwrap_or_default(), waited.as_millis()
        ));
        facts.push((
            "cover",
            json!({ "nonconforming": record["nonconforming"], "inspected": record["inspected"], "verdict": record["verdict"] }),
        ));
        facts.push(("live_ms", json!(waited.as_millis() as u64)));
        Ok(())
    }

    fn competitor(&self, facts: &mut Facts) -> Result<(), Failure> {
        self.chapter("The competitor is connected all the time. What does it have?");
        let feeds = self.call("competitor", &["feeds"])?["feeds"]
            .as_array()
            .map_or(0, |feeds| feeds.iter().filter(|feed| feed["own"] != json!(true)).count());
        let records = self.call("competitor", &["records"])?["records"].as_array().map_or(0, Vec::len);
        let traces = traces(&self.home("competitor"), &[PLATE_LOT, COVER_LOT, "NIST-PLATE", "quality"])?;
        // The same search must find what is there, or it proves nothing.
        let control = traces_of(&self.home("oem-b"), PLATE_LOT)?;
        self.say(format!("  {feeds} feeds, {records} records, and {traces} places in all its files that name the lots, the part or the feed (the same search finds {control} at OEM B)"));
        if feeds + records + traces != 0 || control == 0 {
            return Err(Failure::new("the competitor can tell that something exists"));
        }
        facts.push(("competitor", json!({ "feeds": feeds, "records": records, "traces": traces, "control": control })));
        Ok(())
    }

    fn auditor(&self, identity: &str, facts: &mut Facts) -> Result<(), Failure> {
        self.chapter("OEM A hands an auditor one file. The auditor has no home, no node and no network.");
        let bundle = self.folder.join("plate.lotline");
        let bundle_text = bundle.to_string_lossy().into_owned();
        let written = self.call("oem-a", &["bundle", "--lot", PLATE_LOT, "-o", &bundle_text])?;
        let verified = self.call_with(None, &["verify", &bundle_text, "--issuer", identity], &[0])?;
        self.say(format!("  {} bytes: {}", written["bytes"], verified["sentence"].as_str().unwrap_or_default()));
        let unknown = self.call_with(None, &["verify", &bundle_text], &[7])?;
        self.say(format!("  without knowing the root: {}", unknown["sentence"].as_str().unwrap_or_default()));
        let mut bytes = std::fs::read(&bundle)?;
        // Flip one bit in the middle of the measured values.
        let at = bytes.len() / 2;
        bytes[at] ^= 1;
        let tampered = self.folder.join("plate-tampered.lotline");
        std::fs::write(&tampered, bytes)?;
        let caught = self.call_with(None, &["verify", &tampered.to_string_lossy(), "--issuer", identity], &[4])?;
        self.say(format!("  one bit of those {} bytes changed: {}", written["bytes"], caught["sentence"].as_str().unwrap_or_default()));
        facts.push(("bundle_bytes", written["bytes"].clone()));
        facts.push((
            "auditor",
            json!({ "verified": verified["outcome"], "without_trust": unknown["outcome"], "tampered": caught["outcome"] }),
        ));
        Ok(())
    }

    fn revoke(&self, facts: &mut Facts) -> Result<(), Failure> {
        self.chapter("The supplier stops sharing with OEM B, then corrects the cover record (a delivery note was missing).");
        self.call("supplier", &["share", "stop", "oem-b"])?;
        let file = self.folder.join("cover_fair_long.csv").to_string_lossy().into_owned();
        self.call(
            "supplier",
            &[
                "publish",
                &file,
                "--lot",
                COVER_LOT,
                "--part",
                "NIST-COVER",
                "--feed",
                "quality",
                "--special",
                "Flatness 1",
                "--delivery-note",
                "DN-7",
                "--supersede",
            ],
        )?;
        let count = |who: &str| -> Result<usize, Failure> {
            Ok(self.call(who, &["records", "--lot", COVER_LOT])?["records"].as_array().map_or(0, Vec::len))
        };
        let waited = self.wait("the correction to arrive at OEM A", || Ok(count("oem-a")? == 2))?;
        // OEM B was connected just as well, and had just as long.
        std::thread::sleep(waited.max(Duration::from_millis(300)));
        let at_b = count("oem-b")?;
        self.say(format!(
            "  the correction reached OEM A in {} ms; OEM B still has {at_b} record of that lot, and keeps what it had",
            waited.as_millis()
        ));
        if at_b != 1 {
            return Err(Failure::new("OEM B received a record after sharing was stopped"));
        }
        let ledger = self.call("supplier", &["ledger", "--to", "oem-b"])?["rows"].as_array().map_or(0, Vec::len);
        self.say(format!("  the supplier's ledger lists each of the {ledger} batches that ever went to OEM B: fields, time, rules version, the receipt it signed"));
        for who in ["supplier", "oem-a", "oem-b"] {
            self.call(who, &["audit"])?;
        }
        self.say("  `lotline audit` at supplier, OEM A and OEM B: clean");
        facts.push(("revoked", json!({ "oem_a": 2, "oem_b": at_b })));
        Ok(())
    }

    fn farewell(&self) -> String {
        let exe = "lotline";
        let mut text = format!("\nDone in {:.1} s.", self.start.elapsed().as_secs_f64());
        match self.kept() {
            Some(folder) => {
                let supplier = folder.join("supplier");
                let _ = write!(
                    text,
                    " The four homes are in {}\n\nNext, with them:\n  {exe} --home {} show {PLATE_LOT}\n  {exe} --home {} policy explain {PLATE_LOT} oem-b\n  {exe} --home {} run\n  {exe} verify {}",
                    folder.display(),
                    folder.join("oem-b").display(),
                    supplier.display(),
                    supplier.display(),
                    folder.join("plate.lotline").display(),
                );
            }
            None => text.push_str(" Everything was in a temporary folder and is gone; `lotline demo --keep FOLDER` keeps it."),
        }
        let _ = write!(
            text,
            "\n\nFor yourself:\n  {exe} init                     set up your own node\n  {exe} publish FILE --lot … --part … --feed …\n  {exe} --help"
        );
        text
    }
}

/// In how many places of all files under a folder one of the words stands.
fn traces(folder: &Path, words: &[&str]) -> Result<usize, Failure> {
    words.iter().try_fold(0, |sum, word| Ok(sum + traces_of(folder, word)?))
}

fn traces_of(folder: &Path, word: &str) -> Result<usize, Failure> {
    let mut found = 0;
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found += traces_of(&path, word)?;
        } else {
            let bytes = std::fs::read(&path)?;
            found += bytes.windows(word.len()).filter(|window| *window == word.as_bytes()).count();
        }
    }
    Ok(found)
}
