//! What is written where, and sent to whom.

use std::path::Path;

use http::{HeaderName, Uri};

use super::Check;
use crate::config::plan::{
    AccessLog, Exporters, LogTarget, Otlp, OtlpProtocol, Spill, Splunk, Telemetry, Zipkin,
};
use crate::config::raw::{
    RawAccessLog, RawOtlp, RawOtlpProtocol, RawSplunk, RawTelemetry, RawZipkin, Spanned,
};

/// The path that takes traces, where the URL has none.
const OTLP_PATH: &str = "/v1/traces";
/// The one method of the collector's gRPC service.
const OTLP_METHOD: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const ZIPKIN_PATH: &str = "/api/v2/spans";
const SPLUNK_PATH: &str = "/services/collector/event";

impl Check<'_> {
    pub(super) fn telemetry(&mut self, raw: &RawTelemetry) -> Telemetry {
        let otlp = raw.otlp.as_ref().and_then(|raw| self.otlp(raw));
        let zipkin = raw.zipkin.as_ref().and_then(|raw| self.zipkin(raw));
        let splunk = raw.splunk.as_ref().and_then(|raw| self.splunk(raw));
        Telemetry {
            access_log: self.access_log(&raw.access_log),
            slow: raw.slow.0,
            exporters: Exporters {
                otlp,
                zipkin,
                splunk,
                notify: Vec::new(),
            },
        }
    }

    fn access_log(&mut self, log: &RawAccessLog) -> Option<AccessLog> {
        let target = match log.path.as_str() {
            "off" => return None,
            "stdout" => LogTarget::Stdout,
            "" => {
                let hint = "write `stdout`, `off` or a file";
                self.error_hint(log.path.span(), "`path` is empty", hint);
                LogTarget::Stdout
            }
            path => {
                let whole = self.path(path);
                if !whole.parent().is_some_and(Path::is_dir) {
                    let message = format!("the directory of {} does not exist", whole.display());
                    self.error(log.path.span(), message);
                }
                LogTarget::File(whole)
            }
        };
        let sample = log.sample.0;
        Some(AccessLog { target, sample })
    }

    fn otlp(&mut self, raw: &Spanned<RawOtlp>) -> Option<Otlp> {
        let hint = "name the collector: `endpoint = \"http://127.0.0.1:4318\"`";
        let endpoint = self.required(raw.endpoint.as_ref(), &raw.span(), "endpoint", hint);
        let (protocol, path) = match raw.protocol {
            RawOtlpProtocol::Http => (OtlpProtocol::Http, OTLP_PATH),
            RawOtlpProtocol::Grpc => (OtlpProtocol::Grpc, OTLP_METHOD),
        };
        let endpoint = endpoint.and_then(|url| self.url(url, path));
        let mut headers = Vec::new();
        for (name, value) in &raw.headers {
            match HeaderName::try_from(name.as_str()) {
                Ok(known) => headers.extend(self.header_secret(value).map(|value| (known, value))),
                Err(_invalid) => {
                    let message = format!("`{}` is not a header name", name.escape_debug());
                    self.error(name.span(), message);
                }
            }
        }
        let ca = self.ca(raw.ca.as_ref());
        Some(Otlp {
            endpoint: endpoint?,
            protocol,
            sample: raw.sample.0,
            headers,
            ca,
        })
    }

    fn zipkin(&mut self, raw: &Spanned<RawZipkin>) -> Option<Zipkin> {
        let hint = "name the server: `endpoint = \"http://127.0.0.1:9411/api/v2/spans\"`";
        let endpoint = self.required(raw.endpoint.as_ref(), &raw.span(), "endpoint", hint)?;
        Some(Zipkin {
            endpoint: self.url(endpoint, ZIPKIN_PATH)?,
            sample: raw.sample.0,
        })
    }

    fn splunk(&mut self, raw: &Spanned<RawSplunk>) -> Option<Splunk> {
        let hint = "name the collector: `url = \"https://splunk.example.com:8088\"`";
        let url = self.required(raw.url.as_ref(), &raw.span(), "url", hint);
        let url = url.and_then(|url| self.url(url, SPLUNK_PATH));
        let hint = "say where it is: `token = { file = \"splunk.token\" }`";
        let token = self.required(raw.token.as_ref(), &raw.span(), "token", hint);
        let token = token.and_then(|token| self.secret(token));
        let ca = self.ca(raw.ca.as_ref());
        let spill = raw.spill.as_ref().and_then(|spill| {
            let hint = "name a directory: `path = \"spill\"`";
            let path = self.required(spill.path.as_ref(), &spill.span(), "path", hint)?;
            let path = self.path(path);
            if spill.size.0 == 0 {
                self.error(spill.size.span(), "`size` must be above zero");
            }
            let size = spill.size.0;
            Some(Spill { path, size })
        });
        Some(Splunk {
            url: url?,
            token: token?,
            index: raw.index.as_ref().map(|index| index.to_string()),
            acknowledge: raw.acknowledge,
            ca,
            spill,
        })
    }

    pub(super) fn ca(&mut self, ca: Option<&Spanned<String>>) -> Option<std::path::PathBuf> {
        self.read_file(ca?).map(|(path, _content)| path)
    }

    /// An absolute URL; `path` stands where it has none.
    fn url(&mut self, text: &Spanned<String>, path: &str) -> Option<Uri> {
        let whole = url(text, path);
        if whole.is_none() {
            self.error_hint(
                text.span(),
                format!("`{}` is not a URL to send to", text.escape_debug()),
                "write it with `http://` or `https://` and without a user",
            );
        }
        whole
    }
}

/// `text` as an absolute URL without a user; `path` stands where it has none.
pub(super) fn url(text: &str, path: &str) -> Option<Uri> {
    let mut parts = text.parse::<Uri>().ok()?.into_parts();
    let scheme = parts.scheme.as_ref()?.as_str();
    let host = parts.authority.as_ref()?;
    if !matches!(scheme, "http" | "https") || host.as_str().contains('@') {
        return None;
    }
    if parts.path_and_query.as_ref().is_none_or(|at| at == "/") {
        parts.path_and_query = Some(path.parse().ok()?);
    }
    Uri::from_parts(parts).ok()
}
