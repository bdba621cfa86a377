//! The page and the local API of a real node: who gets in, what comes out, and that nothing in it runs.
// The exception for tests covers only functions marked #[test], not what they share.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use lotline_integration::world::{Firm, World};
use serde_json::{Value, json};

/// Every kind of address, with what it takes to ask there.
const ROUTES: [(&str, &str); 10] = [
    ("GET", "/"),
    ("GET", "/?q=L-1"),
    ("GET", "/record/z6Mk%2Fquality%2F1/1"),
    ("GET", "/verify"),
    ("POST", "/verify"),
    ("GET", "/static/style.css"),
    ("GET", "/api/v1/health?nonce=00"),
    ("POST", "/api/v1/verb"),
    ("GET", "/metrics"),
    ("GET", "/nothing/at/all"),
];

/// What a rebound name, a proxy or a careless client would send; `{port}` is the right one.
const BAD_HOSTS: [&str; 30] = [
    "",
    "evil.example",
    "evil.example:{port}",
    "127.0.0.1",
    "localhost",
    "127.0.0.1:1",
    "localhost:1",
    "127.0.0.1:{port}.evil.example",
    "127.0.0.1.evil.example:{port}",
    "localhost.evil.example:{port}",
    "evil-localhost:{port}",
    "localhost.:{port}",
    "127.0.0.2:{port}",
    "127.1:{port}",
    "127.0.0.1.:{port}",
    "2130706433:{port}",
    "0x7f000001:{port}",
    "0177.0.0.1:{port}",
    "0.0.0.0:{port}",
    "[::]:{port}",
    "[::1]",
    "[::ffff:127.0.0.1]:{port}",
    "[0:0:0:0:0:0:0:1]:{port}",
    "192.168.0.1:{port}",
    "169.254.169.254:{port}",
    "user@127.0.0.1:{port}",
    "127.0.0.1:{port}@evil.example",
    "127.0.0.1:{port},evil.example",
    "127.0.0.1:{port}/x",
    "127.0.0.1:0{port}",
];

const BAD_ORIGINS: [&str; 10] = [
    "null",
    "http://evil.example",
    "https://127.0.0.1:{port}",
    "http://127.0.0.1",
    "http://127.0.0.1:1",
    "http://localhost:{port}",
    "http://127.0.0.1:{port}.evil.example",
    "http://127.0.0.1:{port}/",
    "file://",
    "",
];

/// A node, and what is needed to talk to it.
struct Node {
    _world: World,
    firm: Firm,
    address: String,
    token: String,
    page_key: String,
}

struct Reply {
    status: u16,
    head: String,
    body: String,
}

impl Node {
    fn new(name: &str) -> Node {
        let world = World::new();
        let firm = world.firm(name);
        firm.start();
        let run: Value = serde_json::from_slice(&std::fs::read(firm.path("run.json")).unwrap()).unwrap();
        let page = run["page"].as_str().unwrap().to_owned();
        Node {
            address: run["api"].as_str().unwrap().to_owned(),
            token: std::fs::read_to_string(firm.path("api-token")).unwrap(),
            page_key: page.split_once("?token=").unwrap().1.to_owned(),
            firm,
            _world: world,
        }
    }

    fn port(&self) -> &str {
        self.address.rsplit(':').next().unwrap()
    }

    fn cookie(&self) -> String {
        format!("Cookie: lotline-{}={}", self.port(), self.page_key)
    }

    fn bearer(&self) -> String {
        format!("Authorization: Bearer {}", self.token)
    }

    /// Sends a request as it stands; only its length is filled in.
    fn send(&self, method: &str, target: &str, headers: &[&str], body: &[u8]) -> Reply {
        let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
        let head = format!("{method} {target} HTTP/1.1\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).unwrap();
        let reply = String::from_utf8_lossy(&reply).into_owned();
        let (head, body) = reply.split_once("\r\n\r\n").unwrap_or((&reply, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        Reply { status, head: head.to_lowercase(), body: body.to_owned() }
    }

    /// As the browser of the owner asks.
    fn get(&self, target: &str) -> Reply {
        self.send("GET", target, &[&format!("Host: {}", self.address), &self.cookie()], b"")
    }

    /// As the browser of the owner sends the form of the verify page.
    fn verify(&self, name: &str, bundle: &[u8]) -> Reply {
        let part = format!(
            "--XX\r\nContent-Disposition: form-data; name=\"bundle\"; filename=\"{name}\"\r\nContent-Type: application/octet-stream\r\n\r\n"
        );
        let body = [part.as_bytes(), bundle, b"\r\n--XX--\r\n"].concat();
        let (host, origin) = (format!("Host: {}", self.address), format!("Origin: http://{}", self.address));
        self.send("POST", "/verify", &[&host, &origin, &self.cookie(), "Content-Type: multipart/form-data; boundary=XX"], &body)
    }
}

#[test]
fn strangers_are_refused_at_every_address() {
    let node = Node::new("Secretive Ltd");
    let fill = |text: &str| text.replace("{port}", node.port());
    let good_host = node.address.clone();
    let hosts: Vec<String> = BAD_HOSTS.iter().map(|host| fill(host)).chain([good_host]).collect();
    let origins: Vec<Option<String>> = BAD_ORIGINS.iter().map(|origin| Some(fill(origin))).chain([None]).collect();
    let right = node.bearer();
    let wrong = ["", "Authorization: Bearer 0000", "Authorization: Basic YTpi"].map(str::to_owned);
    let wrong_page_key = format!("Cookie: lotline-{}={}", node.port(), "0".repeat(64));
    // A verb that would leave a trace.
    let stop = serde_json::to_vec(&json!({ "Share": { "Stop": { "partner": null } } })).unwrap();
    let mut tried = 0;
    for (method, target) in ROUTES {
        for (h, host) in hosts.iter().enumerate() {
            for origin in &origins {
                for key in [&wrong[0], &wrong[1], &wrong[2], &wrong_page_key, &right] {
                    let all_right = h == hosts.len() - 1 && origin.is_none() && *key == right;
                    if all_right {
                        continue;
                    }
                    let mut headers = vec![format!("Host: {host}"), key.clone()];
                    headers.extend(origin.as_ref().map(|origin| format!("Origin: {origin}")));
                    let headers: Vec<&str> = headers.iter().map(String::as_str).filter(|header| !header.is_empty()).collect();
                    let reply = node.send(method, target, &headers, if method == "POST" { &stop } else { b"" });
                    let what = format!("{method} {target} {headers:?}: {}", reply.status);
                    assert!(matches!(reply.status, 400 | 401 | 403), "{what}");
                    assert!(!reply.body.contains("Secretive") && !reply.head.contains("set-cookie"), "{what}");
                    tried += 1;
                }
            }
        }
    }
    assert!(tried > 15_000, "{tried}");
    for odd in [
        "Host: evil.example\r\nHost: {host}",
        "Host: {host}\r\nHost: evil.example",
        "Host: {host}\r\nSec-Fetch-Site: cross-site",
        "Host: {host}\r\nSec-Fetch-Site: same-site",
        "X: y",
    ] {
        let reply = node.send("GET", "/", &[&odd.replace("{host}", &node.address), &right], b"");
        assert!(matches!(reply.status, 400 | 403), "{odd}: {}", reply.status);
    }
    let absolute = node.send("GET", "http://evil.example/", &[&format!("Host: {}", node.address), &right], b"");
    assert_eq!(absolute.status, 403);
    assert_eq!(node.firm.ok(&["status"])["policy"]["stopped"]["everybody"], false);
}

#[test]
fn the_link_opens_the_page_and_nothing_else() {
    let node = Node::new("Open Ltd");
    let host = format!("Host: {}", node.address);
    let entered = node.send("GET", &format!("/?token={}", node.page_key), &[&host], b"");
    assert_eq!(entered.status, 303);
    assert!(entered.head.contains("location: /\r\n"), "{}", entered.head);
    let cookie = format!("set-cookie: lotline-{}={}; path=/; httponly; samesite=strict", node.port(), node.page_key);
    assert!(entered.head.contains(&cookie), "{}", entered.head);
    assert_eq!(node.send("GET", &format!("/?token={}", "0".repeat(64)), &[&host], b"").status, 401);

    for (target, status) in
        [("/", 200), ("/verify", 200), ("/static/style.css", 200), ("/record/x/1", 404), ("/static/../api-token", 404), ("/nothing", 404)]
    {
        let reply = node.get(target);
        assert_eq!(reply.status, status, "{target}");
        for header in [
            "content-security-policy: default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
            "x-content-type-options: nosniff",
            "cache-control: no-store",
            "cross-origin-resource-policy: same-origin",
            "referrer-policy: same-origin",
        ] {
            assert!(reply.head.contains(header), "{target}: no {header}\n{}", reply.head);
        }
        assert!(!reply.head.contains("access-control-allow"), "{target}");
    }
    // Cookies go to every port of this computer, and links stay in histories: the page's key must not do verbs.
    let verb = br#"{"Status":{}}"#;
    let origin = format!("Origin: http://{}", node.address);
    assert_eq!(node.send("POST", "/api/v1/verb", &[&host, &origin, &node.cookie()], verb).status, 401);
    assert_eq!(node.send("POST", "/api/v1/verb", &[&host, &format!("Authorization: Bearer {}", node.page_key)], verb).status, 401);
    assert_eq!(node.send("GET", "/api/v1/health", &[&host, &node.cookie()], b"").status, 401);
    let said: Value = serde_json::from_str(&node.send("POST", "/api/v1/verb", &[&host, &node.bearer()], verb).body).unwrap();
    assert_eq!(said["answer"]["json"]["name"], "Open Ltd");
    let said: Value =
        serde_json::from_str(&node.send("POST", "/api/v1/verb", &[&host, &node.bearer()], br#"{"Destroy":{}}"#).body).unwrap();
    assert_eq!(said["failure"]["exit"], 2);
    #[cfg(unix)]
    for file in ["run.json", "api-token"] {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(std::fs::metadata(node.firm.path(file)).unwrap().permissions().mode() & 0o077, 0, "{file}");
    }
    node.firm.stop();
    assert!(!node.firm.path("run.json").exists());
}

/// What people try first, and what breaks out of text, attributes, comments, titles and templates.
const PAYLOADS: [&str; 24] = [
    "<script>alert(1)</script>",
    "\"><script src=//evil.example></script>",
    "'><img src=x onerror=alert(1)>",
    "<img src=x onerror=alert`1`>",
    "</title><script>alert(1)</script>",
    "</bdi></td></table><svg onload=alert(1)>",
    "<svg/onload=alert(1)>",
    "<iframe src=javascript:alert(1)>",
    "javascript:alert(1)",
    "<a href=javascript:alert(1)>x</a>",
    "<body onload=alert(1)>",
    "<style>@import'//evil.example'</style>",
    "<link rel=stylesheet href=//evil.example>",
    "<meta http-equiv=refresh content=0;url=//evil.example>",
    "<base href=//evil.example>",
    "<form action=//evil.example><button>x",
    "<!--><script>alert(1)</script>",
    "{{7*7}}{% if true %}x{% endif %}",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "&#60;script&#62;",
    "`<b>`<script>`",
    "\" autofocus onfocus=alert(1) x=\"",
    "<ScRiPt >alert(1)</sCrIpT>",
    "<details open ontoggle=alert(1)>",
];

#[test]
fn nothing_that_a_stranger_wrote_runs_in_the_page() {
    let node = Node::new("<img src=x onerror=alert('name')> & \"Söhne\"");
    let world = &node._world;
    let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    let mut feed = 0;
    for payload in PAYLOADS {
        // Every text the importer takes, from the file and from the flags.
        let mut csv = String::from("serial,characteristic,nominal,lsl,usl,unit,value\n");
        for piece in 0..3 {
            let (serial, name) = (quoted(&format!("{payload}{piece}")), quoted(payload));
            csv.push_str(&format!("{serial},{name},1,0,2,mm,1.{piece}\n"));
        }
        let file = world.file("payload.csv", csv);
        let mut args = vec!["publish", &file, "--feed", "quality"];
        for flag in [
            "--lot",
            "--part",
            "--part-name",
            "--drawing",
            "--order",
            "--reason",
            "--operation",
            "--site",
            "--standard",
            "--machine",
            "--gauge",
            "--remarks",
            "--revision",
            "--customer-part",
            "--delivery-note",
        ] {
            args.extend([flag, payload]);
        }
        let said = node.firm.call(&args);
        assert_eq!(said.code, 0, "{payload}: {} {}", said.error(), said.hint());
        feed += 1;
        let origin = said.json["published"].as_array().and_then(|rows| rows[0]["origin"].as_str()).map(str::to_owned);
        let origin = origin.unwrap_or_else(|| node.firm.records()[0].0.clone());
        let page = node.get(&format!("/record/{}/{feed}", origin.replace('/', "%2F")));
        assert_eq!(page.status, 200, "{payload}");
        inert(payload, &page.body);
        assert!(page.body.contains(&escaped(payload)), "{payload} is not shown");
    }
    for target in ["/", "/verify"] {
        let page = node.get(target);
        inert(target, &page.body);
        assert!(page.body.contains(&escaped("<img src=x onerror=alert('name')> & \"Söhne\"")), "{target}");
    }
    for payload in PAYLOADS {
        let query: String = payload.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let page = node.get(&format!("/?q={query}"));
        assert_eq!(page.status, 200, "{payload}");
        inert(payload, &page.body);
        let name = payload.replace('"', "%22");
        let page = node.verify(&name, b"no bundle");
        assert_eq!(page.status, 200, "{payload}: {}", page.body);
        inert(payload, &page.body);
        let page = node.get(&format!("/record/{query}/1"));
        assert_eq!(page.status, 404, "{payload}");
        inert(payload, &page.body);
    }
}

fn escaped(text: &str) -> String {
    text.chars().map(|c| if matches!(c, '<' | '>' | '&' | '"' | '\'') { format!("&#{};", c as u32) } else { c.to_string() }).collect()
}

/// Every tag and attribute of a page is one the templates write, and points nowhere else.
fn inert(what: &str, html: &str) {
    const TAGS: &str = "a article bdi body button caption code dd details div dl dt footer form h1 h2 h3 head header html img input label li \
                        link main meta nav p script section span strong summary table tbody td th thead title tr ul";
    const ATTRIBUTES: &str = "action alt aria-current aria-hidden aria-label aria-labelledby autocomplete charset class content data-label defer \
                              enctype for height href id lang method name open rel required role scope spellcheck src tabindex title type value width";
    let (tags, attributes): (BTreeSet<&str>, BTreeSet<&str>) = (TAGS.split_whitespace().collect(), ATTRIBUTES.split_whitespace().collect());
    let mut rest = html;
    while let Some(at) = rest.find('<') {
        rest = &rest[at + 1..];
        let closing = rest.starts_with('/');
        let inside = rest.strip_prefix(['/', '!']).unwrap_or(rest);
        let end = inside.find('>').unwrap_or_else(|| panic!("{what}: a tag that does not end: {inside:.80}"));
        let tag = &inside[..end];
        if tag == "doctype html" {
            continue;
        }
        let (name, mut pairs) = tag.split_once([' ', '\n']).unwrap_or((tag, ""));
        assert!(tags.contains(name), "{what}: <{tag}>");
        assert!(!closing || pairs.is_empty(), "{what}: </{tag}>");
        while !pairs.trim().is_empty() {
            pairs = pairs.trim_start();
            let (attribute, value, after) = match pairs.find(['=', ' ']) {
                Some(at) if pairs[at..].starts_with("=\"") => {
                    let value = &pairs[at + 2..];
                    let end = value.find('"').unwrap_or_else(|| panic!("{what}: <{tag}>"));
                    (&pairs[..at], &value[..end], &value[end + 1..])
                }
                Some(at) if pairs[at..].starts_with(' ') => (&pairs[..at], "", &pairs[at..]),
                Some(_) => panic!("{what}: an attribute without quotes: <{tag}>"),
                None => (pairs, "", ""),
            };
            assert!(attributes.contains(attribute), "{what}: {attribute} in <{tag}>");
            if matches!(attribute, "href" | "src" | "action") {
                assert!((value.starts_with('/') && !value.starts_with("//")) || value == "#main", "{what}: <{tag}>");
            }
            assert!(name != "script" || matches!((attribute, value), ("src", "/static/drop.js") | ("defer", "")), "{what}: <{tag}>");
            assert!(name != "meta" || matches!(attribute, "charset" | "name" | "content"), "{what}: <{tag}>");
            pairs = after;
        }
        rest = &inside[end..];
    }
    assert!(html.matches("<script").count() <= 1, "{what}");
}

const LOT: &str = "serial,characteristic,nominal,lsl,usl,unit,value\n1,Bore,12.5,12.4,12.6,mm,12.51\n2,Bore,12.5,12.4,12.6,mm,12.63\n";

#[test]
fn the_verify_page_tells_good_from_altered_from_foreign() {
    let node = Node::new("Maker Ltd");
    let world = &node._world;
    let stranger = world.firm("Stranger Ltd");
    let file = world.file("lot.csv", LOT);
    let bundle = |firm: &Firm, name: &str| {
        firm.publish(&file, &["--lot", "L-1", "--part", "P-1", "--feed", "quality"]);
        let path = world.path(name).display().to_string();
        firm.ok(&["bundle", "--lot", "L-1", "--full", "auditor", "--yes", "--output", &path]);
        std::fs::read(path).unwrap()
    };
    let (good, foreign) = (bundle(&node.firm, "good.lotline"), bundle(&stranger, "foreign.lotline"));

    let page = node.verify("good.lotline", &good);
    assert_eq!(page.status, 200);
    for text in ["Verified", "Intact, 1 record, signed by Maker Ltd (this is you).", "good.lotline", "1 of 2 pieces inspected fail", "▲"]
    {
        assert!(page.body.contains(text), "`{text}` is missing");
    }
    inert("good", &page.body);

    let page = node.verify("foreign.lotline", &foreign);
    for text in ["Intact, signer not established", "calls itself Stranger Ltd", "nobody you know vouches for this name"] {
        assert!(page.body.contains(text), "`{text}` is missing");
    }
    node.firm.ok(&["partner", "accept", &stranger.invitation(), "--as", "stranger"]);
    let page = node.verify("foreign.lotline", &foreign);
    assert!(page.body.contains("signed by stranger (in your partner book)"));

    for at in (0..good.len()).step_by(good.len() / 40) {
        let mut altered = good.clone();
        altered[at] ^= 1;
        let page = node.verify("altered.lotline", &altered);
        assert_eq!(page.status, 200);
        assert!(page.body.contains("class=\"outcome bad\"") && !page.body.contains(">Verified"), "byte {at}");
        inert("altered", &page.body);
    }
    assert!(node.verify("photo.jpg", b"\xff\xd8\xff").body.contains("Not a bundle"));
    let nothing = node.verify("", b"");
    assert_eq!(nothing.status, 400);
    assert!(nothing.body.contains("No file was chosen"));
}

#[test]
fn a_record_of_ours_says_who_sees_what_of_it_and_why() {
    let node = Node::new("Maker Ltd");
    let world = &node._world;
    node.firm.ok(&["partner", "accept", &world.firm("Oem Ltd").invitation(), "--as", "oem"]);
    node.firm.ok(&["partner", "accept", &world.firm("Rival Ltd").invitation(), "--as", "rival"]);
    let file = world.file("lot.csv", LOT);
    node.firm.publish(&file, &["--lot", "L-1", "--part", "P-1", "--feed", "quality", "--machine", "M-7"]);
    assert!(node.get("/").body.contains("no rule shows anything to anybody"));
    node.firm.apply(
        "[[share]]\nname = \"incoming\"\nwith = \"oem\"\nfeed = \"quality\"\nparts = [\"P-1\"]\nshow = [\"identity\", \"standard\"]\nuntil = \"revoked\"\n\
         [[never]]\nname = \"competitors\"\nwith = \"rival\"\nshow = \"everything\"\n",
    );
    let home = node.get("/").body;
    for text in
        ["<code>incoming</code> shows <strong>identity, standard</strong>", "<code>competitors</code> hides", "Waiting for partners"]
    {
        assert!(home.contains(text), "`{text}` is missing");
    }
    let (origin, seq, _) = node.firm.records()[0].clone();
    let page = node.get(&format!("/record/{}/{seq}", origin.replace('/', "%2F"))).body;
    for text in
        ["Who sees what of it", "1 of 8", "shown by <code>incoming</code>", "hidden, <code>competitors</code> forbids it", "M-7", "12.63"]
    {
        assert!(page.contains(text), "`{text}` is missing");
    }
    node.firm.ok(&["share", "stop"]);
    assert!(node.get("/").body.contains("Sharing is stopped with everybody"));
    let found = node.get("/?q=l-1").body;
    assert!(found.contains("1 record with this in lot or part"));
    assert!(node.get("/?q=nowhere").body.contains("0 records with this"));
}

#[test]
fn a_run_file_that_is_left_over_is_seen_through() {
    let node = Node::new("Killed Ltd");
    let leftover = std::fs::read(node.firm.path("run.json")).unwrap();
    node.firm.kill();
    assert!(node.firm.path("run.json").exists());
    assert_eq!(node.firm.ok(&["status"])["running"], false, "nobody listens there");

    // Somebody else's program has the port by now, and answers everything.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut run: Value = serde_json::from_slice(&leftover).unwrap();
    run["api"] = json!(listener.local_addr().unwrap().to_string());
    std::fs::write(node.firm.path("run.json"), run.to_string()).unwrap();
    let heard = Arc::new(Mutex::new(String::new()));
    let hears = heard.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            let read = stream.read(&mut request).unwrap_or(0);
            hears.lock().unwrap().push_str(&String::from_utf8_lossy(&request[..read]));
            let body = r#"{"ok":true,"proof":"trust me","answer":{"text":"","json":{"running":true},"exit":0}}"#;
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
        }
    });
    assert_eq!(node.firm.ok(&["status"])["running"], false, "it did not prove itself");
    let heard = heard.lock().unwrap().clone();
    assert!(heard.contains("/api/v1/health") && !heard.contains(&node.token) && !heard.contains("/verb"), "{heard}");
    assert!(!heard.contains(&node.page_key));
}
