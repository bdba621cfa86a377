//! Firms with a home each, the real program `lotline` on them, and waiting without fixed sleeps or ports.
//!
//! A firm's port is chosen at random below the range the system hands out by itself and then kept: partners that
//! dial a firm after it was killed find it where it was, as they do in real life.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// How long something may take on a busy computer before a test says that it will not happen.
pub const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(15);
/// What opens every recovery kit and backup of the tests.
pub const PASSPHRASE: &str = "only for a test";

/// The program under test: beside this test's own executable or one folder up, where cargo puts it.
pub fn program() -> PathBuf {
    let (test, name) = (std::env::current_exe().unwrap(), format!("lotline{}", std::env::consts::EXE_SUFFIX));
    let program = test.ancestors().skip(1).take(2).map(|folder| folder.join(&name)).find(|program| program.exists());
    program
        .unwrap_or_else(|| panic!("`{name}` is missing: build it first with `cargo build -p lotline-node` (`cargo test --workspace` does)"))
}

/// Waits until something is so, and says what was waited for in vain.
pub fn wait(what: &str, so: impl FnMut() -> bool) {
    wait_for(PATIENCE, what, so);
}

/// The same, for what takes its time.
pub fn wait_for(patience: Duration, what: &str, mut so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !so() {
        assert!(start.elapsed() < patience, "waited {} s in vain: {what}", patience.as_secs());
        std::thread::sleep(POLL);
    }
}

/// The seed of this run: SEED=… repeats a failure.
pub fn seed() -> u64 {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from_le_bytes(random()));
    eprintln!("SEED={seed}");
    seed
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    lotline_node::keys::random(&mut bytes);
    bytes
}

/// A small generator (splitmix64) for the choices of a seeded test.
pub struct Dice(pub u64);

impl Dice {
    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ (word >> 31)) % bound
    }
}

/// A folder of its own for one test, in which firms live and files lie.
pub struct World {
    folder: TempDir,
}

impl Default for World {
    fn default() -> Self {
        World::new()
    }
}

impl World {
    /// An empty one.
    pub fn new() -> World {
        World { folder: tempfile::Builder::new().prefix("lotline-test-").tempdir().unwrap() }
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A file in it.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        text(&path)
    }

    /// The file with the passphrase of kits and backups.
    pub fn passphrase(&self) -> String {
        self.file("passphrase.txt", format!("{PASSPHRASE}\n"))
    }

    /// A firm that dials out only.
    pub fn firm(&self, name: &str) -> Firm {
        Firm::at(&self.path(name)).set_up(self, name, &[])
    }

    /// A firm that others can dial.
    pub fn reachable_firm(&self, name: &str) -> Firm {
        self.firm_listening(name, &format!("127.0.0.1:{}", free_port()))
    }

    /// A firm that others can dial at this address.
    pub fn firm_listening(&self, name: &str, address: &str) -> Firm {
        Firm::at(&self.path(name)).set_up(self, name, &["--listen", address])
    }

    /// `lotline verify`: no home, no node, no network.
    pub fn verify(&self, bundle: &str, args: &[&str]) -> Said {
        let mut command = Command::new(program());
        command.args(["verify", bundle, "--json"]).args(args).env("LOTLINE_HOME", self.path("no such home"));
        Said::of(&mut command)
    }
}

/// A port that nobody has now, outside the range the system takes ports from for others.
pub fn free_port() -> u16 {
    loop {
        let port = 20_000 + u16::from_le_bytes(random()) % 12_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// What a command answered.
#[derive(Debug)]
pub struct Said {
    /// Its exit code; -1 when it was killed.
    pub code: i32,
    /// What it printed, as JSON; null when that is none.
    pub json: Value,
    /// What it printed.
    pub out: String,
    /// What it said beside.
    pub err: String,
}

impl Said {
    /// Runs a command to its end.
    pub fn of(command: &mut Command) -> Said {
        let output = command.stdin(Stdio::null()).output().unwrap();
        let out = String::from_utf8_lossy(&output.stdout).into_owned();
        Said {
            code: output.status.code().unwrap_or(-1),
            json: serde_json::from_str(&out).unwrap_or(Value::Null),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
            out,
        }
    }

    /// The error in words.
    pub fn error(&self) -> &str {
        self.json["error"].as_str().unwrap_or(&self.err)
    }

    /// The way out it offers.
    pub fn hint(&self) -> &str {
        self.json["hint"].as_str().unwrap_or("")
    }
}

/// A firm: a home, and at times a node that runs on it.
pub struct Firm {
    home: PathBuf,
    log: PathBuf,
    node: RefCell<Option<Child>>,
    /// The network namespace that it lives in, if it is not this computer's.
    place: Option<String>,
}

impl Drop for Firm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let last: Vec<&str> = log.lines().rev().take(20).collect();
            eprintln!("--- what the node on {} said last:", self.home.display());
            last.iter().rev().for_each(|line| eprintln!("    {line}"));
        }
        self.kill();
    }
}

impl Firm {
    /// A home at this path, set up or not.
    pub fn at(home: &Path) -> Firm {
        Firm { log: home.with_extension("log"), home: home.to_owned(), node: RefCell::new(None), place: None }
    }

    /// Moves it into a network namespace: its node runs there, and so do its commands.
    pub fn within(mut self, namespace: &str) -> Firm {
        self.place = Some(namespace.to_owned());
        self
    }

    fn set_up(self, world: &World, name: &str, more: &[&str]) -> Firm {
        let kit = text(&world.path(&format!("kit of {name}.txt")));
        let args = ["init", "--name", name, "--kit", &kit, "--passphrase-file", &world.passphrase(), "--kit-work-factor", "2"];
        self.ok(&[&args, more].concat());
        self
    }

    /// Its home.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// A file of its home.
    pub fn path(&self, name: &str) -> PathBuf {
        self.home.join(name)
    }

    /// The program, on this home.
    pub fn command(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let mut command = match &self.place {
            // It becomes the program, so that who kills it kills the node.
            Some(place) => {
                let mut inside = Command::new("ip");
                inside.args(["netns", "exec", place]).arg(program());
                inside
            }
            None => Command::new(program()),
        };
        command.arg("--home").arg(&self.home).args(args).env_remove("LOTLINE_HOME").env_remove("SSLKEYLOGFILE");
        command
    }

    /// Runs a verb with --json, whatever comes of it. An answer that says nothing of its version fails the test.
    pub fn call(&self, args: &[&str]) -> Said {
        let said = Said::of(self.command(args).arg("--json"));
        if said.json.is_object() {
            assert_eq!(said.json["schema_version"], 1, "lotline {}: {}", args.join(" "), said.out);
            assert_eq!(said.json["ok"], said.code == 0, "lotline {}: {}", args.join(" "), said.out);
        }
        said
    }

    /// Runs a verb that must do what it is asked.
    pub fn ok(&self, args: &[&str]) -> Value {
        let said = self.call(args);
        assert_eq!(said.code, 0, "lotline {}: {} {}", args.join(" "), said.error(), said.hint());
        assert!(said.json.is_object(), "lotline {} printed no JSON: {}", args.join(" "), said.out);
        said.json
    }

    /// Runs a verb that must end with this code.
    pub fn fails(&self, code: i32, args: &[&str]) -> Said {
        let said = self.call(args);
        assert_eq!(said.code, code, "lotline {}: {}{} {}", args.join(" "), said.out, said.err, said.hint());
        said
    }

    /// Starts the node and waits until it answers.
    pub fn start(&self) {
        self.start_with(&[]);
    }

    /// The same with more flags of `run`.
    pub fn start_with(&self, more: &[&str]) {
        if let Err(code) = self.try_start(more) {
            panic!("the node ended with {code:?}: {}", self.log());
        }
    }

    /// Starts the node although commands may hold the home at times: for tests that run both at once.
    pub fn start_among_commands(&self) {
        wait("a node to get the home", || match self.try_start(&[]) {
            Ok(()) => true,
            Err(Some(6)) => false,
            Err(code) => panic!("the node ended with {code:?}: {}", self.log()),
        });
    }

    /// Starts the node and waits until it answers, or ends with a code.
    fn try_start(&self, more: &[&str]) -> Result<(), Option<i32>> {
        self.spawn_with(more);
        let pid = self.node.borrow().as_ref().unwrap().id();
        let mut ended = None;
        wait("a node to start", || {
            ended = self.node.borrow_mut().as_mut().unwrap().try_wait().unwrap();
            // A run file may be left of a node that was killed.
            let run: Option<Value> = std::fs::read(self.path("run.json")).ok().and_then(|run| serde_json::from_slice(&run).ok());
            ended.is_some() || run.is_some_and(|run| run["pid"] == pid)
        });
        match ended {
            None => Ok(()),
            Some(status) => {
                self.node.borrow_mut().take();
                Err(status.code())
            }
        }
    }

    /// Starts the node and does not wait.
    pub fn spawn(&self) {
        self.spawn_with(&[]);
    }

    fn spawn_with(&self, more: &[&str]) {
        assert!(self.node.borrow().is_none(), "a node runs already");
        let log = std::fs::File::options().create(true).append(true).open(&self.log).unwrap();
        let mut command = self.command(["run", "--until-stdin-ends", "--verbose"].iter().chain(more));
        let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        *self.node.borrow_mut() = Some(child);
    }

    /// Sends its node a signal by name, as `STOP`.
    pub fn signal(&self, name: &str) {
        let process = self.node.borrow().as_ref().expect("a node runs").id().to_string();
        assert!(Command::new("kill").args(["-s", name, &process]).status().unwrap().success());
    }

    /// Whether a node runs.
    pub fn runs(&self) -> bool {
        self.node.borrow().is_some()
    }

    /// kill -9. Whether there was something to kill.
    pub fn kill(&self) -> bool {
        let Some(mut child) = self.node.borrow_mut().take() else {
            return false;
        };
        let _ = child.kill();
        // A process that was killed has no exit code; one that ended before has.
        child.wait().is_ok_and(|status| status.code().is_none())
    }

    /// Stops the node in order.
    pub fn stop(&self) {
        let mut child = self.node.borrow_mut().take().expect("a node runs");
        drop(child.stdin.take());
        let start = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if start.elapsed() > PATIENCE {
                let _ = child.kill();
                panic!("the node does not stop");
            }
            std::thread::sleep(POLL);
        };
        assert!(status.success(), "the node ended with {status}: {}", self.log());
    }

    /// What its node said so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The line for a partner.
    pub fn invitation(&self) -> String {
        string(&self.ok(&["partner", "invite", "--offline"])["invitation"])
    }

    /// Its name on the network.
    pub fn peer(&self) -> String {
        string(&self.ok(&["status"])["transport"]["peer"])
    }

    /// Starts its node as a relay for these firms, by the list that its owner keeps.
    pub fn start_as_relay_for(&self, firms: &[&Firm]) {
        let list: String = firms.iter().map(|firm| format!("{} a member\n", firm.peer())).collect();
        std::fs::write(self.path("relay-users.txt"), list).unwrap();
        self.start_with(&["--relay"]);
    }

    /// The address that a relay says when it starts.
    pub fn relay_address(&self) -> String {
        self.log().split_whitespace().find(|word| word.starts_with("relay://")).expect("it says its address").to_owned()
    }

    /// Writes into its configuration that it keeps places at these relays.
    pub fn keep_places_at(&self, relays: &[&Firm]) {
        let path = self.path("lotline.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        let relays: Vec<String> = relays.iter().map(|relay| format!("{:?}", relay.relay_address())).collect();
        std::fs::write(&path, format!("relays = [{}]\n{text}", relays.join(", "))).unwrap();
    }

    /// How many relays keep it a place.
    pub fn places_kept(&self) -> usize {
        let status = self.ok(&["status"]);
        status["relays"].as_array().unwrap().iter().filter(|relay| relay["kept"] == true).count()
    }

    /// Its identity.
    pub fn identity(&self) -> String {
        string(&self.ok(&["keys", "show"])["identity"])
    }

    /// Both accept each other: `self` calls the other `other_name`, and it follows `self` under `own_name`.
    pub fn pair(&self, own_name: &str, other: &Firm, other_name: &str) {
        other.ok(&["partner", "accept", &self.invitation(), "--as", own_name, "--subscribe"]);
        self.ok(&["partner", "accept", &other.invitation(), "--as", other_name]);
    }

    /// Puts sharing rules in force.
    pub fn apply(&self, rules: &str) -> Value {
        std::fs::write(self.path("policy.toml"), rules).unwrap();
        self.ok(&["policy", "apply", "--yes"])
    }

    /// Publishes a file into a feed.
    pub fn publish(&self, file: &str, more: &[&str]) -> Value {
        self.ok(&[&["publish", file], more].concat())
    }

    /// Its records: (feed, seq, leaf), in order. Only what can be seen.
    pub fn records(&self) -> Vec<(String, u64, String)> {
        let answer = self.ok(&["records", "--last", "1000000"]);
        let row = |row: &Value| (string(&row["origin"]), row["seq"].as_u64().unwrap(), string(&row["leaf"]));
        let mut rows: Vec<_> = answer["records"].as_array().unwrap().iter().map(row).collect();
        rows.sort();
        rows
    }

    /// How many records of a lot are here.
    pub fn count(&self, lot: &str) -> usize {
        self.ok(&["records", "--lot", lot])["records"].as_array().unwrap().len()
    }

    /// The state of each field of the one record of a lot: shown, hidden or absent.
    pub fn field(&self, lot: &str, field: &str) -> String {
        string(&self.ok(&["show", lot])["record"]["fields"][field]["state"])
    }

    /// Size and root of its data feeds, by origin.
    pub fn heads(&self) -> Vec<(String, u64, String)> {
        let answer = self.ok(&["feeds"]);
        let feeds = answer["feeds"].as_array().unwrap().iter().filter(|feed| feed["offered"].is_null() && feed["name"] != "org");
        let mut heads: Vec<_> =
            feeds.map(|feed| (string(&feed["origin"]), feed["size"].as_u64().unwrap(), string(&feed["root"]))).collect();
        heads.sort();
        heads
    }

    /// Feeds that were frozen, and why.
    pub fn frozen(&self) -> Vec<Value> {
        let answer = self.ok(&["feeds"]);
        answer["feeds"].as_array().unwrap().iter().filter(|feed| feed["frozen"].is_string()).cloned().collect()
    }

    /// What its status says of a partner.
    pub fn partner(&self, name: &str) -> Value {
        let status = self.ok(&["status"]);
        status["partners"].as_array().unwrap().iter().find(|partner| partner["name"] == name).cloned().unwrap_or(Value::Null)
    }

    /// Rows of its ledger for somebody.
    pub fn ledger(&self, to: &str) -> Vec<Value> {
        self.ok(&["ledger", "--to", to, "--last", "1000000"])["rows"].as_array().unwrap().clone()
    }

    /// `lotline audit` finds nothing, and nothing is frozen.
    pub fn is_clean(&self) {
        let audit = self.ok(&["audit"]);
        assert_eq!(audit["clean"], true, "{audit}");
        assert_eq!(self.frozen(), Vec::<Value>::new());
    }
}

/// Waits until a follower has all that a supplier's data feeds hold: same sizes, same roots.
pub fn wait_until_level(supplier: &Firm, follower: &Firm) {
    let heads = supplier.heads();
    wait("the follower to be level with the supplier", || {
        let theirs = follower.heads();
        heads.iter().all(|head| theirs.contains(head))
    });
}

/// A measuring file: `lots` lots of one part, three pieces each, with one diameter.
pub fn lots_file(prefix: &str, part: &str, lots: usize) -> String {
    let mut text = String::from("lot,part,serial,characteristic,nominal,lsl,usl,unit,value\n");
    for lot in 0..lots {
        for serial in 1..=3 {
            let value = format!("12.{}", 480 + (lot * 7 + serial) % 40);
            text.push_str(&format!("{prefix}-{lot:04},{part},{serial},Diameter,12.5,12.4,12.6,mm,{value}\n"));
        }
    }
    text
}

/// A path as text.
pub fn text(path: &Path) -> String {
    path.to_str().expect("test folders have plain names").to_owned()
}

/// Text out of JSON.
pub fn string(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}
