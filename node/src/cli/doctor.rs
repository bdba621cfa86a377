//! `lotline doctor`: looks for what is in the way, and says what to do about it.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::answer::{Answer, Failure, exit};
use crate::desk::Desk;
use crate::feeds::Partner;
use crate::net::{Address, Net, Obstacle, PeerId, Place, Web};
use crate::service::{LinkBoard, time_text};

/// Where firms write down their proxy for other programs.
const PROXY_VARIABLES: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

/// What to look at.
#[derive(clap::Subcommand, Serialize, Deserialize, Clone, Debug)]
pub enum Verb {
    /// The way to partners and relays: which one is in use, what fails, what to do. Dials their addresses, and changes nothing.
    #[command(after_help = "Example: lotline doctor net\n         lotline doctor net oem")]
    Net(NetArgs),
}

/// Flags of `doctor net`.
#[derive(clap::Args, Serialize, Deserialize, Clone, Debug)]
pub struct NetArgs {
    /// This partner alone, also if it is connected.
    partner: Option<String>,
}

/// Does it.
pub fn run(desk: &Desk, verb: Verb) -> Result<Answer, Failure> {
    match verb {
        Verb::Net(args) => net(desk, args.partner.as_deref()),
    }
}

/// What is known and found of one partner or relay.
struct Finding {
    kind: &'static str,
    name: String,
    /// How it stands.
    state: String,
    /// It works, whatever its addresses answer.
    works: bool,
    /// An address that answers is not enough: this is in the way then.
    though_it_answers: Option<&'static str>,
    /// What to do when there is no address to try.
    without_address: Option<&'static str>,
    tried: Vec<Tried>,
}

struct Tried {
    address: Address,
    /// Who should be there.
    peer: PeerId,
    found: Result<(), Obstacle>,
}

fn net(desk: &Desk, only: Option<&str>) -> Result<Answer, Failure> {
    let snapshot = desk.handle.snapshot();
    if let Some(name) = only.filter(|name| !snapshot.book.contains_key(*name)) {
        return Err(Failure::new(format!("there is no partner `{name}`")).exit(exit::NOT_FOUND).hint("lotline partner list shows them"));
    }
    let web = desk.home.web(&desk.config)?;
    let seed = Zeroizing::new(desk.handle.with_blocking(|feeds| feeds.keys().transport_seed())?);
    let relays = desk.config.relays.iter().filter_map(|relay| relay.parse().ok()).filter(|_| only.is_none());
    let partners = snapshot.book.values().filter(|partner| only.is_none_or(|name| partner.name == name));
    let mut findings: Vec<Finding> =
        relays.map(|relay| of_relay(desk, relay)).chain(partners.map(|partner| of_partner(desk, partner, only.is_some()))).collect();
    let mut tried: Vec<&mut Tried> = findings.iter_mut().flat_map(|finding| &mut finding.tried).collect();
    let places = tried.iter().map(|tried| (tried.address.clone(), tried.peer)).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for (tried, found) in tried.iter_mut().zip(runtime.block_on(Net::probe(&seed, &web, places))) {
        tried.found = found;
    }
    let fine = findings.iter().all(Finding::is_fine);
    let mut text = here(desk, &web);
    if snapshot.book.is_empty() {
        text.push_str("partners   none yet: `lotline partner invite`\n");
    }
    findings.iter().for_each(|finding| finding.write(&mut text));
    let (running, proxy) = (desk.board.is_some(), web.proxy.as_ref().map(|proxy| proxy.at().host_port()));
    let found: Vec<Value> = findings.iter().map(Finding::json).collect();
    let json = json!({ "running": running, "fine": fine, "listening": listening(desk), "proxy": proxy, "found": found });
    Ok(Answer { text, json, exit: if fine { 0 } else { exit::FAILED } })
}

fn listening(desk: &Desk) -> Vec<String> {
    desk.board.as_ref().map_or_else(|| desk.config.listen.clone(), LinkBoard::listening)
}

/// This side of it.
fn here(desk: &Desk, web: &Web) -> String {
    let mut text = String::new();
    if desk.board.is_none() {
        text.push_str("node       not running: nothing is exchanged until `lotline run`\n");
    }
    let own: Vec<Address> =
        listening(desk).iter().filter_map(|address| address.parse().ok()).filter(|address: &Address| address.relay().is_none()).collect();
    if own.is_empty() {
        text.push_str("listening  nowhere: this node dials its partners and needs no open port\n");
    }
    for address in own {
        text.push_str(&format!(
            "listening  {}: only others can see whether they get here; `lotline doctor net` on their side tells\n",
            address.host_port()
        ));
    }
    let elsewhere = PROXY_VARIABLES.into_iter().find(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()));
    match (&web.proxy, elsewhere) {
        (Some(proxy), _) => text.push_str(&format!("proxy      {}, for wss:// and ws:// addresses\n", proxy.at().host_port())),
        (None, Some(name)) => text.push_str(&format!(
            "proxy      none, though this computer has one ({name}). If programs get out through it alone, name it in lotline.toml: [web], proxy = \"http://…\"; it is used for wss:// addresses\n"
        )),
        (None, None) => {}
    }
    text
}

fn of_relay(desk: &Desk, address: Address) -> Finding {
    let place: Option<Place> =
        desk.board.as_ref().and_then(|board| board.relays().places.into_iter().find(|place| place.address == address));
    let kept = place.as_ref().is_some_and(|place| place.kept);
    let trouble = place.as_ref().and_then(|place| place.trouble.clone());
    let state = match (&place, &trouble) {
        (None, _) => "not asked, since the node is not running".to_owned(),
        (Some(_), _) if kept => "a place is kept".to_owned(),
        (Some(_), Some(why)) => format!("keeps no place ({why})"),
        (Some(_), None) => "not asked: two others are enough".to_owned(),
    };
    let though_it_answers = trouble.as_ref().map(|_| {
        "it answers and keeps no place: ask who runs it to put this node on the list (`lotline status` shows its peer id), and whether it runs with --relay"
    });
    let relay = address.relay().filter(|_| !kept);
    let tried = relay.map(|(peer, _)| Tried { address: address.clone(), peer, found: Ok(()) }).into_iter().collect();
    Finding { kind: "relay", name: address.host_port(), state, works: kept, though_it_answers, without_address: None, tried }
}

fn of_partner(desk: &Desk, partner: &Partner, thorough: bool) -> Finding {
    let link = desk.board.as_ref().map(|board| board.of(&partner.name)).unwrap_or_default();
    let state = match (&link.path, &link.trouble) {
        (Some(path), _) => {
            let way = if path.remote.contains("/p2p-circuit") { ", through a relay" } else { "" };
            format!("connected since {}, {} {}{way}", time_text(path.since), if path.dialled_by_us { "to" } else { "from" }, path.remote)
        }
        (None, Some(why)) => format!("not connected ({why})"),
        (None, None) => "not connected".to_owned(),
    };
    let peer: Option<PeerId> = partner.peer.parse().ok().filter(|_| thorough || !link.connected);
    let addresses = partner.addresses.iter().filter_map(|address| address.parse::<Address>().ok());
    let tried = peer.into_iter().flat_map(|peer| addresses.clone().map(move |address| Tried { address, peer, found: Ok(()) })).collect();
    let waits = desk.board.is_some() && !link.connected;
    Finding {
        kind: "partner",
        name: partner.name.clone(),
        state,
        works: link.connected,
        though_it_answers: waits.then_some(
            "it answers. If it stays so for a minute, the partner may have taken this node out of its book, or knows it under an older key: ask",
        ),
        without_address: (partner.addresses.is_empty() && !link.connected).then_some(
            "no address is known: it has to dial this node. If it cannot, ask it for an address, or meet at a relay (docs/relay.md)",
        ),
        tried,
    }
}

impl Finding {
    fn answers(&self) -> bool {
        self.tried.iter().any(|tried| tried.found.is_ok())
    }

    fn is_fine(&self) -> bool {
        self.works || self.answers() && self.though_it_answers.is_none()
    }

    fn advice(&self) -> Option<&'static str> {
        if self.answers() { self.though_it_answers } else { self.without_address }
    }

    fn write(&self, text: &mut String) {
        text.push_str(&format!("{:<10} {}: {}\n", self.kind, self.name, self.state));
        for Tried { address, found, .. } in &self.tried {
            let (found, todo) = match found {
                Ok(()) => ("answers".to_owned(), None),
                Err(obstacle) => {
                    let (found, todo) = words(obstacle, address);
                    (found, Some(todo))
                }
            };
            text.push_str(&format!("           {} {found}\n", address.host_port()));
            if let Some(todo) = todo {
                text.push_str(&format!("             -> {todo}\n"));
            }
        }
        if let Some(advice) = self.advice() {
            text.push_str(&format!("             -> {advice}\n"));
        }
    }

    fn json(&self) -> Value {
        let tried = self.tried.iter().map(|Tried { address, found, .. }| {
            let told = found.as_ref().err().map(|obstacle| words(obstacle, address));
            json!({ "address": address.host_port(), "answers": found.is_ok(), "found": told.as_ref().map(|told| &told.0), "todo": told.as_ref().map(|told| &told.1) })
        });
        json!({ "kind": self.kind, "name": self.name, "state": self.state, "fine": self.is_fine(), "tried": tried.collect::<Vec<_>>(), "todo": self.advice() })
    }
}

/// What was found, and what to do.
fn words(obstacle: &Obstacle, address: &Address) -> (String, String) {
    let (found, todo) = match obstacle {
        Obstacle::Name(why) => (
            format!("has a name that is not known here ({why})"),
            "ask the partner whether the name is right; look whether this computer is online and has a DNS server",
        ),
        Obstacle::Silent => (
            "does not answer".to_owned(),
            match address.is_web() {
                true => {
                    "a firewall on the way drops it, or that computer is off: ask whoever runs your network whether it lets this computer out to that address, or names a proxy for [web] in lotline.toml"
                }
                false => {
                    "a firewall on the way drops it, or that computer is off. Firms often let out port 443 alone: ask the partner for a wss:// address, or meet at a relay (docs/relay.md)"
                }
            },
        ),
        Obstacle::Closed => (
            "is there, and nothing listens at that port".to_owned(),
            "the partner's node is off, or its firewall leads the port elsewhere: ask the partner",
        ),
        Obstacle::Unreachable(why) => (
            format!("cannot be reached from here ({why})"),
            "look whether this computer is online; an address of the partner's own network is of no use outside it",
        ),
        Obstacle::Proxy(why) => (
            format!("is not let through: {why}"),
            "ask whoever runs the proxy to let this computer through to that address; user and password go into [web] proxy in lotline.toml",
        ),
        Obstacle::Certificate(why) => (
            format!("shows a certificate that is not trusted here ({why})"),
            "if the partner has an authority of its own, name its certificate in lotline.toml: [web], trust = \"ca.pem\". Else somebody opens what goes by: ask for an exception for that address",
        ),
        Obstacle::Strange(why) => (
            format!("answers, but not as a node does ({why})"),
            "something on the way may open or change what goes by: a wss:// address goes through most of that; or the port leads to another program: ask the partner",
        ),
        Obstacle::Another(peer) => (
            format!("is another node: `{peer}`"),
            "the partner may have a new one: ask by telephone, then pair again. Nothing was said to it but a greeting",
        ),
    };
    (found, todo.to_owned())
}
