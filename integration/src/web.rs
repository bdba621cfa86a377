//! What a node needs to be reached at a web address: certificates, and the lines of `lotline.toml` that name them.

use std::path::Path;

use crate::world::Firm;

/// A certificate for these names, by an authority of the firm's own: `cert.pem`, `key.pem`, and `ca.pem` that trusts it.
pub fn certificates(folder: &Path, names: &[&str]) {
    let mut authority = rcgen::CertificateParams::new(Vec::new()).expect("no names");
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority_key = rcgen::KeyPair::generate().expect("a key");
    let authority = authority.self_signed(&authority_key).expect("a certificate");
    let key = rcgen::KeyPair::generate().expect("a key");
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let own = rcgen::CertificateParams::new(names).expect("names").signed_by(&key, &authority, &authority_key).expect("a certificate");
    for (name, text) in [("ca.pem", authority.pem()), ("cert.pem", own.pem()), ("key.pem", key.serialize_pem())] {
        std::fs::write(folder.join(name), text).expect("a file is written");
    }
}

/// Writes lines into a configuration: plain ones, and a table `web` (a second time: another one).
pub fn configure(firm: &Firm, plain: &str, web: &str) {
    let path = firm.path("lotline.toml");
    let text = std::fs::read_to_string(&path).expect("a configuration");
    let before = text.split("[web]").next().unwrap_or_default();
    let kept: String = before
        .lines()
        .filter(|line| !line.starts_with("listen") && !line.starts_with("announce"))
        .map(|line| format!("{line}\n"))
        .collect();
    std::fs::write(&path, format!("{plain}\n{kept}[web]\n{web}\n")).expect("a configuration is written");
}
