//! The dashboard: four files, built from `dashboard/`, committed, and part of the binary.
//!
//! The page itself is asked for anew each time and names its script and style with a hash of what they are, so that these
//! may be kept for ever and a new binary still is a new dashboard. Compressed once, for whoever takes that.

use std::io::Write as _;
use std::sync::LazyLock;

use axum::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG,
    IF_NONE_MATCH, VARY,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

/// Nothing inline, nothing from elsewhere.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// A year: the address changes when what it means does.
const FOR_EVER: &str = "public, max-age=31536000, immutable";

/// The paths.
pub(super) const PATHS: [&str; 4] = ["/", "/app.js", "/app.css", "/icon.svg"];

static FILES: LazyLock<[File; 4]> = LazyLock::new(|| {
    let script = File::new(
        "text/javascript",
        include_bytes!("../../dashboard/dist/app.js"),
    );
    let style = File::new("text/css", include_bytes!("../../dashboard/dist/app.css"));
    let icon = File::new(
        "image/svg+xml",
        include_bytes!("../../dashboard/dist/icon.svg"),
    );
    let page = include_str!("../../dashboard/dist/index.html")
        .replace("\"/app.js\"", &format!("\"/app.js?{}\"", script.hash))
        .replace("\"/app.css\"", &format!("\"/app.css?{}\"", style.hash))
        .replace("\"/icon.svg\"", &format!("\"/icon.svg?{}\"", icon.hash));
    let page = File::new("text/html; charset=utf-8", page.as_bytes());
    [page, script, style, icon]
});

struct File {
    kind: &'static str,
    hash: String,
    plain: Bytes,
    compressed: Bytes,
}

impl File {
    fn new(kind: &'static str, bytes: &[u8]) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
        let hash = URL_SAFE_NO_PAD.encode(digest);
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        // Writing to memory does not fail; were it to, the file would go out as it is.
        let compressed = encoder.write_all(bytes).and_then(|()| encoder.finish());
        Self {
            kind,
            hash: hash.chars().take(16).collect(),
            plain: Bytes::copy_from_slice(bytes),
            compressed: compressed.unwrap_or_default().into(),
        }
    }

    fn answer(&self, uri: &Uri, headers: &HeaderMap) -> Response {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let takes_gzip = text(ACCEPT_ENCODING).is_some_and(|codings| codings.contains("gzip"));
        let gzip = takes_gzip && !self.compressed.is_empty();
        let tag = format!("\"{}{}\"", self.hash, if gzip { "-gzip" } else { "" });
        let known = text(IF_NONE_MATCH).is_some_and(|tags| tags.contains(&tag));
        let mut response = if known {
            StatusCode::NOT_MODIFIED.into_response()
        } else if gzip {
            self.compressed.clone().into_response()
        } else {
            self.plain.clone().into_response()
        };
        let named = uri.query() == Some(&self.hash);
        let keep = if named { FOR_EVER } else { "no-cache" };
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.kind));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static(keep));
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
        headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
        if let Ok(tag) = HeaderValue::from_str(&tag) {
            headers.insert(ETAG, tag);
        }
        if gzip && !known {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    }
}

pub(super) async fn serve(uri: Uri, headers: HeaderMap) -> Response {
    let mut files = PATHS.iter().zip(FILES.iter());
    let file = files.find(|(path, _)| **path == uri.path());
    file.map_or_else(
        || StatusCode::NOT_FOUND.into_response(),
        |(_, file)| file.answer(&uri, &headers),
    )
}
