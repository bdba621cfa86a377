//! Networks of a test's own: hosts, sites behind routers that translate addresses, and lines with delay, loss and rate.
//!
//! ```text
//! a site:   host 10.1.0.2 ── 10.1.0.1 router 203.0.113.2 ──┐
//!                                                      public network (a bridge) ── 203.0.113.1 a host
//! a site:   host 10.2.0.2 ── 10.2.0.1 router 203.0.113.3 ──┘
//! ```
//!
//! Each of them is a network namespace, named after this process and removed when the lab is dropped, also by a test that fails; what a
//! killed test left is removed by the next. Nothing of the computer's own network is touched. Needs Linux, root, `ip` and `nft`; a
//! [`Wire`] needs `/dev/net/tun` as well.

use std::cell::{Cell, RefCell};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

mod wire;

pub use wire::{Line, Passed, Way, Wire};

/// What the names of all namespaces begin with; the number of the process follows.
const PREFIX: &str = "lotline-";

/// Where `ip` keeps them.
const NAMESPACES: &str = "/run/netns";

/// Labs of this process so far.
static LABS: AtomicU32 = AtomicU32::new(0);

/// How a site's router translates addresses. Nobody calls in through any of them unless it says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nat {
    /// Full cone: the host keeps its port, and whoever calls the router's address reaches it.
    Cone,
    /// The host keeps its port; only who was called may answer, from the port that was called.
    PortRestricted,
    /// Symmetric: each conversation gets another port, at random.
    Symmetric,
}

/// Namespaces that belong together; the public network is one of them.
pub struct Lab {
    prefix: String,
    namespaces: RefCell<Vec<String>>,
    hosts: Cell<u8>,
    sites: Cell<u8>,
}

impl Lab {
    /// A public network with nobody in it; an error when this computer cannot have one.
    pub fn new() -> Result<Lab, String> {
        remove_left()?;
        let number = LABS.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("{PREFIX}{}-{number}-", std::process::id());
        let lab = Lab { prefix, namespaces: RefCell::default(), hosts: Cell::new(0), sites: Cell::new(0) };
        run(Command::new("nft").arg("--version"), "")?;
        let public = lab.namespace("public", "")?;
        public.ip("link add bridge type bridge")?;
        public.ip("link set bridge up")?;
        // A machine that has namespaces may still have no way to filter in them.
        public.nft("table inet tried {\n}\n")?;
        Ok(lab)
    }

    /// A host of its own, joined to nothing yet.
    pub fn alone(&self, name: &str) -> Place {
        self.namespace(name, "").expect("a namespace")
    }

    /// A host with a public address.
    pub fn host(&self, name: &str) -> Place {
        self.join(name, "eth")
    }

    /// A host behind a router of its own, which has a public address.
    pub fn site(&self, name: &str, nat: Nat) -> Site {
        let router = self.join(&format!("{name}-router"), "wan");
        let number = self.sites.get() + 1;
        self.sites.set(number);
        let host = self.namespace(name, &format!("10.{number}.0.2")).expect("a namespace");
        host.set(&format!("ip link add eth type veth peer name lan netns {}", router.name));
        host.set(&format!("ip addr add {}/24 dev eth", host.address));
        host.set("ip link set eth up");
        router.set(&format!("ip addr add 10.{number}.0.1/24 dev lan"));
        router.set("ip link set lan up");
        host.set(&format!("ip route add default via 10.{number}.0.1"));
        router.set("echo 1 > /proc/sys/net/ipv4/ip_forward");
        router.nft(&translation(nat, &host.address)).expect("a router translates");
        Site { host, router }
    }

    /// A namespace with a cable to the public network.
    fn join(&self, name: &str, cable: &str) -> Place {
        let number = self.hosts.get() + 1;
        self.hosts.set(number);
        let place = self.namespace(name, &format!("203.0.113.{number}")).expect("a namespace");
        place.set(&format!("ip link add {cable} type veth peer name to{number} netns {}public", self.prefix));
        place.set(&format!("ip addr add {}/24 dev {cable}", place.address));
        place.set(&format!("ip link set {cable} up"));
        let public = Place { name: format!("{}public", self.prefix), address: String::new() };
        public.set(&format!("ip link set to{number} master bridge up"));
        place
    }

    fn namespace(&self, name: &str, address: &str) -> Result<Place, String> {
        let place = Place { name: format!("{}{name}", self.prefix), address: address.to_owned() };
        run(Command::new("ip").args(["netns", "add", &place.name]), "")?;
        self.namespaces.borrow_mut().push(place.name.clone());
        place.ip("link set lo up")?;
        Ok(place)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for name in self.namespaces.borrow().iter() {
            let _ = run(Command::new("ip").args(["netns", "del", name]), "");
        }
    }
}

/// A host and its router.
pub struct Site {
    /// Where a firm's node runs.
    pub host: Place,
    /// Between it and the public network.
    pub router: Place,
}

/// One network namespace: a computer, as far as the network is concerned. Its [`Lab`] must outlive what runs in it.
#[derive(Clone, Debug)]
pub struct Place {
    name: String,
    address: String,
}

impl Place {
    /// Name of the namespace.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address; empty when it has none by itself.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The same place, with an address that it got on a [`Wire`].
    pub fn at(&self, address: &str) -> Place {
        Place { name: self.name.clone(), address: address.to_owned() }
    }

    /// Runs a line of shell in it, which must succeed.
    pub fn set(&self, line: &str) {
        self.run(line, "").unwrap_or_else(|why| panic!("{why}"));
    }

    /// A program to be run in it.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// Adds nftables rules. Two of this version's traps: one closing brace a line, and no chain called `fwd`.
    pub fn nft(&self, rules: &str) -> Result<(), String> {
        self.run("nft -f -", rules)
    }

    /// From now on no packet comes or goes, but for those to itself. Nobody is told.
    pub fn cut(&self) {
        let chain = |hook: &str, but: &str| format!("chain {hook} {{\ntype filter hook {hook} priority -10\n{but}\ndrop\n}}\n");
        let input = chain("input", "iif lo accept");
        let output = chain("output", "oif lo accept");
        self.nft(&format!("table inet cut {{\n{input}{output}{}}}\n", chain("forward", ""))).unwrap();
    }

    /// Ends [`Place::cut`].
    pub fn heal(&self) {
        self.set("nft delete table inet cut");
    }

    fn ip(&self, args: &str) -> Result<(), String> {
        run(Command::new("ip").args(["-n", &self.name]).args(args.split(' ')), "")
    }

    fn run(&self, line: &str, input: &str) -> Result<(), String> {
        run(self.command("sh").args(["-c", line]), input)
    }
}

/// The rules of a router. What the network calls a mapping the kernel keeps by conversation; that a stranger's packet makes none on the
/// router itself takes the rule for `input`, without which a later mapping would move.
fn translation(nat: Nat, host: &str) -> String {
    let masquerade = match nat {
        Nat::Cone => "masquerade persistent",
        Nat::PortRestricted => "masquerade",
        Nat::Symmetric => "masquerade fully-random",
    };
    let (called, forward) = match nat {
        Nat::Cone => (format!("chain called {{\ntype nat hook prerouting priority -100\niifname wan dnat ip to {host}\n}}\n"), ""),
        Nat::PortRestricted | Nat::Symmetric => (String::new(), "iifname wan ct state new drop"),
    };
    format!(
        "table ip nat {{\nchain leaving {{\ntype nat hook postrouting priority 100\noifname wan {masquerade}\n}}\n{called}}}\n\
         table ip filter {{\nchain input {{\ntype filter hook input priority 0\niifname wan ct state new drop\n}}\n\
         chain forward {{\ntype filter hook forward priority 0\n{forward}\n}}\n}}\n"
    )
}

/// Namespaces of test processes that are no more.
fn remove_left() -> Result<(), String> {
    let Ok(there) = std::fs::read_dir(NAMESPACES) else {
        return Ok(());
    };
    for name in there.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        let process = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        if process.is_some_and(|process| !Path::new("/proc").join(process.to_string()).exists()) {
            let _ = run(Command::new("ip").args(["netns", "del", &name]), "");
        }
    }
    Ok(())
}

fn run(command: &mut Command, input: &str) -> Result<(), String> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|why| format!("{command:?}: {why}"))?;
    let _ = child.stdin.take().expect("piped").write_all(input.as_bytes());
    let output = child.wait_with_output().map_err(|why| format!("{command:?}: {why}"))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    output.status.success().then_some(()).ok_or_else(|| format!("{command:?}: {said}{input}"))
}
