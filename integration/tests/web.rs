//! Through what looks like the web: a WebSocket inside TLS, ended by the node itself or by a real reverse proxy in front of it. What runs
//! inside stays between the two nodes.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use lotline_integration::web::{certificates, configure};
use lotline_integration::world::{Firm, World, free_port, lots_file, string, wait, wait_until_level};
use serde_json::json;

const SHARE: &str = "[[share]]\nname = 'all'\nwith = 'oem'\nfeed = 'quality'\nparts = 'all'\nshow = ['verdict']\nuntil = 'revoked'\n";
/// This computer, and a name that only the proxy of a test knows.
const HERE: [&str; 3] = ["localhost", "127.0.0.1", "lots.oem.example"];

/// The supplier pairs by a code, and a record goes over.
fn exchange_over(world: &World, oem: &Firm, supplier: &Firm, place: &str) {
    oem.start();
    supplier.start();
    let invited = oem.ok(&["partner", "invite"]);
    assert_eq!(invited["host"], json!(place));
    supplier.ok(&["partner", "accept", &string(&invited["code"]), place, "--as", "oem", "--group", "customers", "--yes"]);
    let number = invited["pairing"].to_string();
    oem.ok(&["partner", "confirm", &number, "--as", "supplier", "--group", "suppliers", "--subscribe"]);
    supplier.publish(&world.file("lots.csv", lots_file("WEB", "PIN", 3)), &["--feed", "quality"]);
    let rules = std::fs::read_to_string(supplier.path("policy.toml")).expect("pairing wrote a group");
    supplier.apply(&format!("{rules}\n{SHARE}"));
    wait_until_level(supplier, oem);
    assert!(string(&supplier.partner("oem")["path"]["remote"]).ends_with("/tls/ws"), "{}", supplier.partner("oem"));
    oem.is_clean();
    supplier.is_clean();
    supplier.stop();
    oem.stop();
}

#[test]
fn a_node_with_a_certificate_is_reached_at_a_web_address() {
    let world = World::new();
    let (oem, supplier) = (world.firm("oem"), world.firm("supplier"));
    certificates(oem.home(), &HERE);
    let port = free_port();
    configure(&oem, &format!("listen = [\"wss://127.0.0.1:{port}\"]"), "certificate = \"cert.pem\"\nkey = \"key.pem\"");
    configure(&supplier, "", &format!("trust = {:?}", oem.path("ca.pem")));
    exchange_over(&world, &oem, &supplier, &format!("wss://127.0.0.1:{port}"));
}

#[test]
fn who_does_not_trust_the_certificate_is_told() {
    let world = World::new();
    let (oem, supplier) = (world.firm("oem"), world.firm("supplier"));
    certificates(oem.home(), &HERE);
    let port = free_port();
    let listen = format!("listen = [\"wss://127.0.0.1:{port}\"]");
    configure(&oem, &listen, "certificate = \"cert.pem\"");
    assert!(oem.fails(1, &["status"]).error().contains("web.certificate and web.key belong together"));
    configure(&oem, &listen, "certificate = \"cert.pem\"\nkey = \"key.pem\"");
    oem.start();
    supplier.start();
    let code = string(&oem.ok(&["partner", "invite"])["code"]);
    let number = supplier.ok(&["partner", "accept", &code, &format!("wss://127.0.0.1:{port}")])["pairing"].to_string();
    wait("the certificate to be refused", || {
        let pairing = supplier.ok(&["partner", "pairings", &number])["pairings"][0].clone();
        string(&pairing["why"]).contains("certificate")
    });
}

/// Ends with the test.
struct Proxy(Child);

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// nginx ends the outer TLS with the firm's certificate and passes a plain WebSocket on, as docs/operating.md shows.
fn reverse_proxy(folder: &Path, from: u16, to: u16) -> Option<Proxy> {
    let found = Command::new("nginx").arg("-v").stderr(Stdio::null()).status();
    if !found.is_ok_and(|status| status.success()) {
        return None;
    }
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operating.md")).expect("the page is there");
    let shown = page.split("```nginx\n").nth(1).and_then(|shown| shown.split("```").next()).expect("the page shows a configuration");
    let at = |name: &str| folder.join(name).display().to_string();
    let shown = shown
        .replace("listen 443 ssl", &format!("listen 127.0.0.1:{from} ssl"))
        .replace("127.0.0.1:8080", &format!("127.0.0.1:{to}"))
        .replace("/etc/ssl/firm.pem", &at("cert.pem"))
        .replace("/etc/ssl/firm.key", &at("key.pem"))
        .replace("lots.oem.example", "127.0.0.1");
    let paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|name| format!("{name}_temp_path {};\n", at(name))).concat();
    let config = format!(
        "daemon off;\nmaster_process off;\npid {};\nerror_log stderr;\nevents {{}}\nhttp {{\naccess_log off;\n{paths}{shown}\n}}\n",
        at("pid")
    );
    std::fs::write(folder.join("nginx.conf"), config).expect("a file is written");
    let log = std::fs::File::create(folder.join("nginx.log")).expect("a log");
    let child = Command::new("nginx").args(["-c", &at("nginx.conf"), "-p", &at("")]).stderr(log).spawn().expect("nginx starts");
    Some(Proxy(child))
}

#[test]
fn a_node_behind_a_reverse_proxy_is_reached_and_the_proxy_sees_nothing() {
    let world = World::new();
    let (oem, supplier) = (world.firm("oem"), world.firm("supplier"));
    certificates(oem.home(), &HERE);
    let (inside, outside) = (free_port(), free_port());
    let Some(_proxy) = reverse_proxy(oem.home(), outside, inside) else {
        eprintln!("SKIPPED: nginx is not installed, so no real reverse proxy was tried");
        return;
    };
    wait("the proxy to listen", || std::net::TcpStream::connect(("127.0.0.1", outside)).is_ok());
    configure(&oem, &format!("listen = [\"ws://127.0.0.1:{inside}\"]\nannounce = [\"wss://127.0.0.1:{outside}\"]"), "");
    configure(&supplier, "", &format!("trust = {:?}", oem.path("ca.pem")));
    exchange_over(&world, &oem, &supplier, &format!("wss://127.0.0.1:{outside}"));
}

/// A firm's proxy: it knows the name of the partner, which this computer does not, and lets nobody through without a password.
fn firm_proxy(to: u16) -> (u16, std::sync::Arc<std::sync::atomic::AtomicUsize>) {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::sync::atomic::{AtomicUsize, Ordering};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let let_through = std::sync::Arc::new(AtomicUsize::new(0));
    let counted = let_through.clone();
    std::thread::spawn(move || {
        for near in listener.incoming().map_while(Result::ok) {
            let counted = counted.clone();
            std::thread::spawn(move || {
                let mut lines = BufReader::new(near.try_clone().expect("a handle")).lines().map_while(Result::ok);
                let head: Vec<String> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
                let mut near = near;
                let known = head.iter().any(|line| line == "Proxy-Authorization: Basic c3VwcGxpZXI6Z2VoZWlt");
                if !known || head.first().map(String::as_str) != Some("CONNECT lots.oem.example:443 HTTP/1.1") {
                    let _ = near.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n");
                    return;
                }
                counted.fetch_add(1, Ordering::SeqCst);
                let mut far = std::net::TcpStream::connect(("127.0.0.1", to)).expect("the partner listens");
                near.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").expect("the caller waits");
                let (mut from, mut back) = (far.try_clone().expect("a handle"), near.try_clone().expect("a handle"));
                let there = std::thread::spawn(move || std::io::copy(&mut near, &mut far).map(|_| far.shutdown(std::net::Shutdown::Write)));
                let _ = std::io::copy(&mut from, &mut back).map(|_| back.shutdown(std::net::Shutdown::Write));
                let _ = there.join();
            });
        }
    });
    (port, let_through)
}

#[test]
fn a_supplier_behind_a_firms_proxy_gets_out_through_it_alone() {
    let world = World::new();
    let (oem, supplier) = (world.firm("oem"), world.firm("supplier"));
    certificates(oem.home(), &HERE);
    let inside = free_port();
    let (proxy, let_through) = firm_proxy(inside);
    let listen = format!("listen = [\"wss://127.0.0.1:{inside}\"]\nannounce = [\"wss://lots.oem.example\"]");
    configure(&oem, &listen, "certificate = \"cert.pem\"\nkey = \"key.pem\"");
    let trust = format!("trust = {:?}", oem.path("ca.pem"));
    configure(&supplier, "", &format!("{trust}\nproxy = \"proxy:{proxy}\""));
    assert!(supplier.fails(1, &["status"]).error().contains("expected `http://host:port`"));

    // Without its password it learns why.
    configure(&supplier, "", &format!("{trust}\nproxy = \"http://127.0.0.1:{proxy}\""));
    oem.start();
    supplier.start();
    let code = string(&oem.ok(&["partner", "invite"])["code"]);
    let number = supplier.ok(&["partner", "accept", &code, "wss://lots.oem.example"])["pairing"].to_string();
    wait("the proxy to refuse", || {
        let pairing = supplier.ok(&["partner", "pairings", &number])["pairings"][0].clone();
        string(&pairing["why"]).contains("the proxy answered `407 Proxy Authentication Required`")
    });
    supplier.stop();
    oem.stop();

    configure(&supplier, "", &format!("{trust}\nproxy = \"http://supplier:geheim@127.0.0.1:{proxy}\""));
    exchange_over(&world, &oem, &supplier, "wss://lots.oem.example:443");
    assert!(let_through.load(std::sync::atomic::Ordering::SeqCst) > 0);
}
