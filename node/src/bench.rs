//! `lotline bench`: speed and memory on this computer, as ratios to a baseline measured in the same run.
//!
//! A ratio of 1 means: as fast as the same bytes, keys and signatures without anything of ours around them.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lotline_policy::Policy;
use lotline_schema::Record;
use lotline_schema::codec;
use lotline_schema::cose::{Sign1, sig_structure};
use serde_json::{Value, json};

use crate::answer::{Answer, Failure};
use crate::config::{Config, Home};
use crate::feeds::{Feed, Feeds, GROUP_MAX, OnConflict, Submission};
use crate::invitation::Invitation;
use crate::keys::{Founding, Keys};
use crate::links;
use crate::net::{self, Net};
use crate::service::{LinkBoard, Service, now};

mod baseline;
mod cost;

/// Flags of `bench`.
#[derive(clap::Args)]
pub struct Args {
    /// How many records.
    #[arg(long, default_value_t = 100_000)]
    records: usize,
    /// Work in this folder (it needs about 15 KB a record) instead of a temporary one.
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// Seconds of publishing at 100 records a second.
    #[arg(long, default_value_t = 10)]
    paced_seconds: u64,
}

const FEED: &str = "bench";
/// The customer that many rules are about.
const RULED: &str = "ruled";
/// Lots repeat, so that the lot index has work to do; identity needs them distinct with the part.
const PARTS: usize = 97;
const PUBLISHERS: usize = 64;
const PATIENCE: Duration = Duration::from_secs(600);

/// Seconds of processor time, and the most memory at once; none where the system does not say.
type Used = (Option<f64>, Option<u64>);

/// Measures.
pub fn run(args: Args, json_only: bool) -> Result<Answer, Failure> {
    let temporary = tempfile::Builder::new().prefix("lotline-bench-").tempdir()?;
    let folder = args.folder.clone().unwrap_or_else(|| temporary.path().into());
    std::fs::create_dir_all(&folder)?;
    let mut bench = Bench { folder, records: args.records.max(GROUP_MAX), json: serde_json::Map::new(), quiet: json_only };
    bench.measure(args.paced_seconds)?;
    Ok(Answer::new("", Value::Object(bench.json)))
}

struct Bench {
    folder: PathBuf,
    records: usize,
    json: serde_json::Map<String, Value>,
    quiet: bool,
}

impl Bench {
    fn note(&mut self, name: &str, line: String, value: Value) {
        // As they come, since a run takes minutes; with --json only at the end.
        if !self.quiet {
            let _ = writeln!(std::io::stdout(), "{line}");
        }
        self.json.insert(name.into(), value);
    }

    fn rate(&self, took: Duration) -> f64 {
        self.records as f64 / took.as_secs_f64()
    }

    fn ratio(&mut self, name: &str, what: &str, ours: Duration, baseline: Duration, aim: f64) {
        let (rate, base) = (self.rate(ours), self.rate(baseline));
        let line = format!("{what:<34} {rate:>9.0} /s   baseline {base:>9.0} /s   ratio {:.2} (aim {aim})", rate / base);
        self.note(name, line, json!({ "per_second": rate, "baseline_per_second": base, "ratio": rate / base, "aim": aim }));
    }

    fn measure(&mut self, paced_seconds: u64) -> Result<(), Failure> {
        let supplier = found(&self.folder, "supplier")?;
        let records = self.records;
        self.note(
            "records",
            format!(
                "{records} records of 20 slots, 400 bytes of values, on {} cores",
                std::thread::available_parallelism().map_or(1, usize::from)
            ),
            json!(records),
        );
        let raws = self.sizes_and_raws(&supplier)?;
        let key = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
        let base_publish = baseline::publish(&self.folder.join("baseline-publish"), &key, &raws)?;
        let ours_publish = publish_all(&supplier, records)?;
        self.ratio("publish", "publish, durable", ours_publish, base_publish, 0.85);
        let base_replicate = baseline::replicate(&self.folder.join("baseline-replicate"), &key, &raws)?;
        drop(raws);
        self.replicate_and_live(&supplier, base_replicate, paced_seconds)?;
        self.start_and_rebuild(&supplier)?;
        let size = std::fs::metadata(std::env::current_exe()?)?.len();
        self.note("binary_bytes", format!("{:<34} {:>9.1} MiB (aim 40, release build)", "program", mib(size)), json!(size));
        Ok(())
    }

    /// The same bytes, keys and signatures as our records, for the baseline; and how large they are.
    fn sizes_and_raws(&mut self, home: &Home) -> Result<Vec<baseline::Raw>, Failure> {
        let keys = Keys::read(&home.keys()).map_err(Failure::new)?;
        let founding = Founding::new();
        let origin = lotline_schema::Origin::new(founding.party(), FEED, 1).map_err(Failure::new)?;
        let mut raws = Vec::with_capacity(self.records);
        let mut sizes = None;
        for at in 0..self.records {
            let place = lotline_schema::statement::Place { origin: origin.clone(), seq: at as u64 + 1, now: now(), supersedes: None };
            let record = record(at);
            let sealed =
                lotline_schema::statement::seal_record(&record, &place, &keys.record, crate::keys::random).map_err(Failure::new)?;
            let sign1 = Sign1::read(&sealed.core).map_err(Failure::new)?;
            let disclosures: Vec<u8> = sealed.disclosures.iter().flat_map(|of| of.bytes().to_vec()).collect();
            sizes.get_or_insert((sealed.core.len(), disclosures.len()));
            let facts = record.facts();
            let row = [&[0u8; 4][..], &(at as u64).to_be_bytes()].concat();
            let term = |text: &Option<String>| [text.as_deref().unwrap_or_default().as_bytes(), &row].concat();
            raws.push(baseline::Raw {
                message: sig_structure(&sign1.protected, &sign1.payload),
                // Core beyond message and signature is framing; the summary stands in the index as it does for us.
                rest: disclosures,
                keys: [row.clone(), term(&facts.lot), term(&facts.part)],
                entry: vec![0; 220],
            });
        }
        if let Some((core, disclosures)) = sizes {
            let line = format!(
                "{:<34} core {core} B + disclosures {disclosures} B; package with proof about {} B",
                "size of a record",
                core + disclosures + 900
            );
            self.note("size", line, json!({ "core": core, "disclosures": disclosures }));
        }
        Ok(raws)
    }

    fn replicate_and_live(&mut self, supplier: &Home, baseline: Duration, paced_seconds: u64) -> Result<(), Failure> {
        let customer = found(&self.folder, "customer")?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let service = Service::open(supplier.clone(), &|_| {})?;
        let mut node = None;
        let outcome = runtime.block_on(self.live(&service, &customer, &mut node, baseline, paced_seconds));
        runtime.shutdown_timeout(Duration::from_secs(5));
        let _ = stop(&mut node);
        service.close()?;
        outcome
    }

    async fn live(
        &mut self,
        service: &Service,
        customer: &Home,
        node: &mut Option<Child>,
        baseline: Duration,
        paced_seconds: u64,
    ) -> Result<(), Failure> {
        let (net, events) = Net::start(net::Config::new(service.keys.transport_seed(), vec!["127.0.0.1:0".parse().map_err(Failure::new)?]))
            .await
            .map_err(Failure::new)?;
        let board = LinkBoard::default();
        let context =
            links::Context { net: net.clone(), handle: service.handle.clone(), board: board.clone(), pairings: None, capture: None };
        let linking = tokio::spawn(links::run(context, events));
        let address = net.listen_addresses().await.first().map(ToString::to_string).unwrap_or_default();
        let (exe, home) = (std::env::current_exe()?, customer.path().to_path_buf());
        // First under many rules, to a customer of its own: whatever is warm later is to their disadvantage.
        let ruled = found(&self.folder, RULED)?;
        pair(service, &exe, ruled.path(), &address, RULED).await?;
        apply(service, &many_rules()).await?;
        let under_rules = replicate_to(service, &board, &exe, ruled.path(), RULED, node).await?;
        stop(node)?;
        pair(service, &exe, &home, &address, "customer").await?;
        apply(service, &everything("customer")).await?;
        let (ourselves, began) = (std::process::id(), cost::cpu_seconds(std::process::id()));
        cost::forget_peak();
        let took = replicate_to(service, &board, &exe, &home, "customer", node).await?;
        let sender = (cost::cpu_seconds(ourselves).zip(began).map(|(now, began)| now - began), cost::peak_bytes(ourselves));
        let receiver = node.as_ref().map_or((None, None), |node| (cost::cpu_seconds(node.id()), cost::peak_bytes(node.id())));
        kill(node)?;
        self.ratio("replicate", "replicate, verified and durable", took, baseline, 0.85);
        self.ratio("replicate_ruled", "the same under 200 rules", under_rules, took, 0.9);
        self.replicate_cost(sender, receiver, cost::folder_bytes(&customer.store()));
        let feed = service.handle.snapshot().own_feed(FEED).cloned().ok_or_else(|| Failure::new("nothing is published"))?;
        let origin = feed.origin.to_string();
        self.after_kill(&exe, customer, &feed)?;
        *node = Some(start(&exe, &home)?);
        self.paced(service, &board, &origin, paced_seconds).await?;
        self.concurrent(service).await?;
        let size = service.handle.snapshot().own_feed(FEED).map_or(0, Feed::size);
        wait_for(&board, "customer", &origin, size, Instant::now()).await?;
        net.shutdown().await;
        let _ = linking.await;
        Ok(())
    }

    fn replicate_cost(&mut self, sender: Used, receiver: Used, store: u64) {
        let text = |(cpu, peak): Used| {
            let peak = peak.map_or("-".into(), |bytes| format!("{:.0}", mib(bytes)));
            format!("{} s, {peak} MiB", cpu.map_or("-".into(), |seconds| format!("{seconds:.2}")))
        };
        let line = format!(
            "{:<34} sender {}, customer {}; store {:.0} MiB",
            "  processor, memory at most",
            text(sender),
            text(receiver),
            mib(store)
        );
        let side = |(cpu, peak): Used| json!({ "cpu_seconds": cpu, "peak_bytes": peak });
        self.note("replicate_cost", line, json!({ "sender": side(sender), "receiver": side(receiver), "store_bytes": store }));
    }

    /// The customer's node was killed right after its last acknowledgement: everything it acknowledged must be there, and hold.
    fn after_kill(&mut self, exe: &Path, customer: &Home, feed: &Feed) -> Result<(), Failure> {
        let opened = Service::open(customer.clone(), &|_| {})?;
        let present = opened.handle.snapshot().feeds.get(feed.origin.as_str()).map_or(0, Feed::size);
        opened.close()?;
        let clean = call(exe, customer.path(), &["audit"])?["clean"] == true;
        let line = format!(
            "{:<34} {present} of {} entries there, {}",
            "  killed and opened again",
            feed.size(),
            if clean { "all valid" } else { "NOT ALL VALID" }
        );
        self.note("after_kill", line, json!({ "present": present, "sent": feed.size(), "valid": clean }));
        Ok(())
    }

    /// From the call of publish to the customer's acknowledgement: signed, durable here, sent, verified, durable there.
    async fn paced(&mut self, service: &Service, board: &LinkBoard, origin: &str, seconds: u64) -> Result<(), Failure> {
        let count = seconds as usize * 100;
        let mut latencies = Vec::with_capacity(count);
        let mut tick = tokio::time::interval(Duration::from_millis(10));
        // The first is not counted: the customer was just started.
        for at in 0..=count {
            tick.tick().await;
            let start = Instant::now();
            let published = service.handle.submit(submission(1_000_000_000 + at)).await?.map_err(|why| Failure::new(why.to_string()))?;
            let (board, origin) = (board.clone(), origin.to_owned());
            // Timers of the runtime tick in milliseconds; a thread of its own looks more often.
            let took = tokio::task::spawn_blocking(move || {
                while acknowledged(&board, "customer", &origin) <= published.seq && start.elapsed() < PATIENCE {
                    std::thread::sleep(Duration::from_micros(100));
                }
                start.elapsed()
            });
            latencies.push(took.await.map_err(Failure::new)?);
            if at == 0 {
                latencies.clear();
            }
        }
        if latencies.iter().any(|took| *took >= PATIENCE) {
            return Err(Failure::new("the customer does not acknowledge"));
        }
        let (sync, round_trip) = baseline::sync_and_round_trip(&self.folder)?;
        let (sync, round_trip) = (sync.as_secs_f64() * 1e3, round_trip.as_secs_f64() * 1e3);
        let (p50, p99) = percentiles(&mut latencies);
        let (p50, p99, aim) = (p50 * 1e3, p99 * 1e3, 4.0 * (sync + round_trip) + 1.0);
        let line = format!(
            "{:<34} p50 {p50:.1} ms   p99 {p99:.1} ms   ({count} at 100/s; aim {aim:.1}: 4 x (sync {sync:.2} + round trip {round_trip:.2}) + 1)",
            "publish to verified at the customer"
        );
        let value = json!({ "p50_ms": p50, "p99_ms": p99, "count": count, "sync_ms": sync, "round_trip_ms": round_trip, "aim_ms": aim });
        self.note("publish_to_verified", line, value);
        Ok(())
    }

    async fn concurrent(&mut self, service: &Service) -> Result<(), Failure> {
        let each = (self.records / 5 / PUBLISHERS).clamp(4, 400);
        let start = Instant::now();
        let publishers = (0..PUBLISHERS).map(|publisher| {
            let handle = service.handle.clone();
            tokio::spawn(async move {
                let mut latencies = Vec::with_capacity(each);
                for at in 0..each {
                    let start = Instant::now();
                    let submission = submission(2_000_000_000 + publisher * 1_000_000 + at);
                    handle.submit(submission).await?.map_err(|why| Failure::new(why.to_string()))?;
                    latencies.push(start.elapsed());
                }
                Ok::<_, Failure>(latencies)
            })
        });
        let mut latencies = Vec::new();
        for publisher in publishers.collect::<Vec<_>>() {
            latencies.extend(publisher.await.map_err(Failure::new)??);
        }
        let rate = latencies.len() as f64 / start.elapsed().as_secs_f64();
        let (p50, p99) = percentiles(&mut latencies);
        let line = format!(
            "{:<34} p50 {:.1} ms   p99 {:.1} ms   {rate:.0} /s, replicating meanwhile",
            "64 publishers at once",
            p50 * 1e3,
            p99 * 1e3
        );
        self.note("publishers_64", line, json!({ "p50_ms": p50 * 1e3, "p99_ms": p99 * 1e3, "per_second": rate }));
        Ok(())
    }

    fn start_and_rebuild(&mut self, supplier: &Home) -> Result<(), Failure> {
        let start = Instant::now();
        let service = Service::open(supplier.clone(), &|_| {})?;
        let took = start.elapsed();
        let entries = service.handle.snapshot().own_feed(FEED).map_or(0, Feed::size);
        service.close()?;
        let line = format!("{:<34} {:>9.0} ms (aim 300), {entries} entries", "start", took.as_secs_f64() * 1e3);
        self.note("start_ms", line, json!(took.as_secs_f64() * 1e3));
        if let Some(idle) = idle_memory(supplier)? {
            self.note("idle_rss_bytes", format!("{:<34} {:>9.1} MiB (aim 64)", "memory of a node at rest", mib(idle)), json!(idle));
        }
        std::fs::remove_dir_all(supplier.store().join("index"))?;
        let start = Instant::now();
        let service = Service::open(supplier.clone(), &|_| {})?;
        let took = start.elapsed();
        service.close()?;
        let line =
            format!("{:<34} {:>9.2} s, {:.0} entries/s", "rebuild of the index", took.as_secs_f64(), entries as f64 / took.as_secs_f64());
        self.note("rebuild_seconds", line, json!(took.as_secs_f64()));
        Ok(())
    }
}

fn found(folder: &Path, name: &str) -> Result<Home, Failure> {
    let home = Home::at(Some(&folder.join(name)))?;
    let config = Config::new(format!("{name} (bench)"));
    crate::cli::init::found(&home, &config, &Founding::new(), Default::default())?;
    Ok(home)
}

/// Twenty slots: lot, part, and eighteen texts, 400 bytes of values in all.
fn record(at: usize) -> Record {
    let lot = format!("L-{:09}", at.wrapping_mul(2_654_435_761) % 1_000_000_007);
    let mut values = vec![codec::text(format!("{lot}-{at}")), codec::text(format!("P-{:05}", at % PARTS))];
    values.extend((0..18).map(|slot| codec::text(format!("value {slot:02} of {at:010}"))));
    Record::benchmark(values)
}

fn submission(at: usize) -> Submission {
    Submission { record: record(at), owner: None, feed: FEED.into(), on_conflict: OnConflict::Refuse }
}

fn publish_all(home: &Home, records: usize) -> Result<Duration, Failure> {
    let keys = Arc::new(Keys::read(&home.keys()).map_err(Failure::new)?);
    let (mut feeds, _, _watching) = Feeds::open(&home.store(), keys, &|_| {})?;
    feeds.ensure_feed(FEED, now())?;
    let mut groups: Vec<Vec<Submission>> = Vec::new();
    for from in (0..records).step_by(GROUP_MAX) {
        groups.push((from..records.min(from + GROUP_MAX)).map(submission).collect());
    }
    let start = Instant::now();
    for group in groups {
        for published in feeds.submit(group, now())? {
            published?;
        }
    }
    feeds.settle()?;
    let took = start.elapsed();
    feeds.close()?;
    Ok(took)
}

fn call(exe: &Path, home: &Path, args: &[&str]) -> Result<Value, Failure> {
    let output = Command::new(exe).arg("--home").arg(home).args(args).arg("--json").stdin(Stdio::null()).output()?;
    serde_json::from_slice(&output.stdout).map_err(|_| Failure::new(String::from_utf8_lossy(&output.stderr).into_owned()))
}

fn invitation(snapshot: &crate::feeds::Snapshot, address: String) -> Invitation {
    let key = snapshot.orgs[&snapshot.party].key(lotline_schema::org::Role::Transport).map(|key| *key.as_bytes()).unwrap_or_default();
    Invitation { party: snapshot.party, name: snapshot.name.clone(), peer: net::peer_id_of(&key).to_string(), addresses: vec![address] }
}

fn partner(of: &Invitation, name: &str) -> crate::feeds::Partner {
    let (party, peer) = (of.party, of.peer.clone());
    crate::feeds::Partner {
        name: name.into(),
        party,
        peer,
        before: Vec::new(),
        addresses: Vec::new(),
        feed: FEED.into(),
        subscribed: false,
        added: now(),
    }
}

/// Both know each other, and the customer follows.
async fn pair(service: &Service, exe: &Path, home: &Path, address: &str, name: &str) -> Result<(), Failure> {
    let line = call(exe, home, &["partner", "invite", "--offline"])?["invitation"].as_str().unwrap_or_default().to_owned();
    let partner = partner(&Invitation::read(&line).map_err(Failure::new)?, name);
    let ours = invitation(&service.handle.snapshot(), address.to_owned());
    call(exe, home, &["partner", "accept", &ours.to_text(), "--as", "supplier", "--subscribe"])?;
    service.handle.with(move |feeds| feeds.put_partner(partner)).await??;
    Ok(())
}

async fn apply(service: &Service, text: &str) -> Result<(), Failure> {
    let policy = Policy::restore(text).map_err(|slips| Failure::new(slips.to_string()))?;
    service.handle.with(move |feeds| feeds.apply_policy(policy, false, now())).await??;
    Ok(())
}

fn everything(with: &str) -> String {
    format!("[[share]]\nname = 'all'\nwith = '{with}'\nfeed = 'bench'\nparts = 'all'\nshow = 'everything'\nuntil = 'revoked'\n")
}

/// Two hundred rules about fifty partners: what one of these may see in the end is everything, by four shares and past one never.
fn many_rules() -> String {
    let partner = |at: usize| if at == 0 { RULED.to_owned() } else { format!("partner-{at}") };
    let mut text = everything(RULED);
    for at in 0..159 {
        let (with, until) = (partner(at % 50), ["'revoked'", "2099-01-01"][at % 2]);
        let parts = if at % 3 == 0 { "'all'".to_owned() } else { format!("['P-{:05}', 'P-{:05}']", at % PARTS, (at + 1) % PARTS) };
        text += &format!(
            "[[share]]\nname = 's{at}'\nwith = '{with}'\nfeed = 'bench'\nparts = {parts}\nshow = ['identity', 'measurements']\nuntil = {until}\n"
        );
    }
    for at in 0..40 {
        let (with, lots) = (partner(at), "lots = ['L-1', 'L-2']");
        text += &format!("[[never]]\nname = 'n{at}'\nwith = '{with}'\nfeed = 'bench'\nshow = 'everything'\n{lots}\n");
    }
    text
}

/// From the start of the customer's node to its acknowledgement of everything.
async fn replicate_to(
    service: &Service,
    board: &LinkBoard,
    exe: &Path,
    home: &Path,
    name: &str,
    node: &mut Option<Child>,
) -> Result<Duration, Failure> {
    let feed = service.handle.snapshot().own_feed(FEED).cloned().ok_or_else(|| Failure::new("nothing is published"))?;
    let begun = Instant::now();
    *node = Some(start(exe, home)?);
    wait_for(board, name, feed.origin.as_str(), feed.size(), begun).await?;
    Ok(begun.elapsed())
}

/// Starts the node of a home.
fn start(exe: &Path, home: &Path) -> std::io::Result<Child> {
    let mut command = Command::new(exe);
    command.arg("--home").arg(home).args(["run", "--until-stdin-ends"]);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
}

/// Ends a node without letting it do anything more.
fn kill(node: &mut Option<Child>) -> std::io::Result<()> {
    let Some(mut node) = node.take() else {
        return Ok(());
    };
    node.kill()?;
    node.wait().map(drop)
}

fn stop(node: &mut Option<Child>) -> std::io::Result<()> {
    let Some(mut node) = node.take() else {
        return Ok(());
    };
    drop(node.stdin.take());
    node.wait().map(drop)
}

fn acknowledged(board: &LinkBoard, customer: &str, origin: &str) -> u64 {
    board.of(customer).follows.get(origin).copied().unwrap_or(0)
}

async fn wait_for(board: &LinkBoard, customer: &str, origin: &str, size: u64, start: Instant) -> Result<(), Failure> {
    while acknowledged(board, customer, origin) < size {
        if start.elapsed() > PATIENCE {
            return Err(Failure::new(format!("the customer stands at {} of {size}", acknowledged(board, customer, origin))));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

/// Resident memory of a node that was started on this home and left alone for two seconds.
fn idle_memory(home: &Home) -> Result<Option<u64>, Failure> {
    let mut node = start(&std::env::current_exe()?, home.path())?;
    std::thread::sleep(Duration::from_secs(2));
    let statm = std::fs::read_to_string(format!("/proc/{}/statm", node.id())).ok();
    drop(node.stdin.take());
    node.wait()?;
    Ok(statm.and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok()).map(|pages| pages * 4096))
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}

fn percentiles(latencies: &mut [Duration]) -> (f64, f64) {
    latencies.sort_unstable();
    let at = |part: usize| latencies.get(latencies.len() * part / 100).or(latencies.last()).map_or(0.0, Duration::as_secs_f64);
    (at(50), at(99))
}
