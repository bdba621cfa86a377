//! The page: rendered here, read-only, whole without JavaScript, from 360 pixels up and on paper.
//!
//! `home` (how this node stands), `record` (one record as a certificate, and who sees what of it), `verify` (somebody's
//! bundle). Both lay certificates out with `sheet`; `words` says things the way people write them.

use askama::Template;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Path};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;

use super::Context;
use crate::answer::{Failure, exit};
use crate::certificate::harmless;
use crate::feeds::Snapshot;
use crate::store::Reader;

mod home;
mod record;
mod sheet;
mod sight;
mod verify;
mod words;

use words::Prose;

/// Every address of the page.
pub(super) fn routes(context: Context) -> Router {
    let verify = get(verify::form).post(verify::verify).layer(DefaultBodyLimit::max(verify::UPLOAD_BYTES_MAX));
    Router::new()
        .route("/", get(home::show))
        .route("/record/{origin}/{seq}", get(record::show))
        .route("/verify", verify)
        .route("/static/{name}", get(file))
        .with_state(context)
}

/// What stands around every page.
struct Frame {
    /// Of the window.
    title: String,
    /// Whose node this is.
    name: String,
    /// Which entry of the navigation is this page.
    at: &'static str,
}

impl Frame {
    fn new(snapshot: &Snapshot, at: &'static str, title: &str) -> Frame {
        let name = harmless(&snapshot.name);
        Frame { title: format!("{title} · {name}"), name, at }
    }
}

/// A page that says why there is nothing else to see.
#[derive(Template)]
#[template(path = "problem.html")]
struct Problem {
    frame: Frame,
    heading: &'static str,
    what: Prose,
    way_out: Option<Prose>,
}

/// Does work that may block (disk, signatures, rendering), and answers with the page it makes.
async fn rendered<T: Template + 'static>(context: Context, work: impl FnOnce(&Context) -> Result<T, Failure> + Send + 'static) -> Response {
    let snapshot = context.handle.snapshot();
    let page = tokio::task::spawn_blocking(move || work(&context).and_then(|page| page.render().map_err(Failure::new)));
    match page.await {
        Ok(Ok(page)) => Html(page).into_response(),
        Ok(Err(failure)) => problem(&snapshot, &failure),
        Err(_) => problem(&snapshot, &Failure::new("this page broke off").hint("look at what the node printed, and please report it")),
    }
}

fn problem(snapshot: &Snapshot, failure: &Failure) -> Response {
    let (status, heading) = match failure.exit {
        exit::NOT_FOUND => (StatusCode::NOT_FOUND, "Nothing here"),
        exit::USAGE => (StatusCode::BAD_REQUEST, "That did not work"),
        _ => (StatusCode::INTERNAL_SERVER_ERROR, "Something is wrong"),
    };
    let page = Problem {
        frame: Frame::new(snapshot, "", heading),
        heading,
        what: Prose::of(&words::sentence(&failure.what)),
        way_out: failure.hint.as_deref().map(|hint| Prose::of(&words::sentence(hint))),
    };
    match page.render() {
        Ok(page) => (status, Html(page)).into_response(),
        Err(_) => status.into_response(),
    }
}

/// The reader, once it shows all that was committed; while the index is rebuilt that would take long, and it says so itself.
fn settled(context: &Context) -> Result<&Reader, Failure> {
    let reader = context.handle.reader();
    let status = reader.status();
    if !status.rebuilding && !status.index_failed {
        reader.settle()?;
    }
    Ok(reader)
}

/// For every other address.
pub(super) async fn nothing_here() -> Response {
    (StatusCode::NOT_FOUND, "there is nothing at this address; the page begins at /\n").into_response()
}

/// The few files beside the pages, in the program itself.
async fn file(Path(name): Path<String>) -> Response {
    let (kind, content) = match name.as_str() {
        "style.css" => ("text/css; charset=utf-8", include_str!("../../static/style.css")),
        "drop.js" => ("text/javascript; charset=utf-8", include_str!("../../static/drop.js")),
        "icon.svg" => ("image/svg+xml", include_str!("../../static/icon.svg")),
        _ => return nothing_here().await,
    };
    ([(header::CONTENT_TYPE, kind)], content).into_response()
}
