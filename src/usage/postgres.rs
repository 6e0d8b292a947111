//! A ledger in `PostgreSQL`, for a fleet that writes to one.
//!
//! The thread that asks waits for the answer, and no longer than [`PATIENCE`]: whatever the network does, it goes on.
//! TLS is as the URL says (`sslmode=disable`, `prefer`, the default, or `require`); where it is used, the server's
//! certificate has to be one that the system trusts. Depends on tokio-postgres.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use futures_util::TryStreamExt;
use rustls::pki_types::{InvalidDnsNameError, ServerName};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_postgres::types::{IsNull, ToSql, Type};
use tokio_postgres::{Client, Config, Row, Statement};
use tokio_rustls::TlsConnector;

use super::database::{Error, Result, Value, signed};
use crate::observe::export::system_tls;

/// How long a connection may take, and one answer.
const CONNECT: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(60);
/// Prepared statements kept.
const STATEMENTS: usize = 64;
/// What all that write or lay out tables hold meanwhile, so that one waits for the other.
const LOCK: i64 = 0x7469_6465_6761_7465;

/// The connection, and what drives it.
pub(super) struct Postgres {
    runtime: Runtime,
    client: Client,
    statements: HashMap<String, Statement>,
}

impl std::fmt::Debug for Postgres {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Postgres").finish_non_exhaustive()
    }
}

impl Postgres {
    pub(super) fn connect(url: &str) -> Result<Self> {
        let mut config: Config = url.parse().map_err(said)?;
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT);
        }
        if config.get_application_name().is_none() {
            config.application_name("tidegate");
        }
        let broken = |error: io::Error| Error::Postgres(error.to_string());
        let tls = Tls(TlsConnector::from(system_tls().map_err(broken)?));
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(broken)?;
        let client = wait(&runtime, async move {
            let (client, connection) = config.connect(tls).await?;
            // What ends it, whoever waits for an answer is told.
            tokio::spawn(async move { connection.await.is_ok() });
            Ok(client)
        })?;
        Ok(Self {
            runtime,
            client,
            statements: HashMap::new(),
        })
    }

    pub(super) fn run(&self, sql: &str) -> Result<()> {
        wait(&self.runtime, self.client.batch_execute(sql))
    }

    pub(super) fn begin(&self) -> Result<()> {
        self.run(&format!("BEGIN; SELECT pg_advisory_xact_lock({LOCK})"))
    }

    pub(super) fn change(&mut self, sql: &str, values: &[Value]) -> Result<u64> {
        let statement = self.prepared(sql)?;
        let changed = self.client.execute_raw(&statement, values);
        wait(&self.runtime, changed)
    }

    pub(super) fn ask(
        &mut self,
        sql: &str,
        values: &[Value],
        mut take: impl FnMut(&Row) -> Result<()>,
    ) -> Result<()> {
        let statement = self.prepared(sql)?;
        let rows = self.client.query_raw(&statement, values);
        let mut rows = Box::pin(wait(&self.runtime, rows)?);
        while let Some(row) = wait(&self.runtime, rows.try_next())? {
            take(&row)?;
        }
        Ok(())
    }

    fn prepared(&mut self, sql: &str) -> Result<Statement> {
        if let Some(statement) = self.statements.get(sql) {
            return Ok(statement.clone());
        }
        if self.statements.len() >= STATEMENTS {
            self.statements.clear();
        }
        let statement = wait(&self.runtime, self.client.prepare(sql))?;
        self.statements.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }
}

fn wait<T>(
    runtime: &Runtime,
    answer: impl Future<Output = std::result::Result<T, tokio_postgres::Error>>,
) -> Result<T> {
    let answer = runtime.block_on(async { tokio::time::timeout(PATIENCE, answer).await });
    let late = |_| Error::Postgres(format!("no answer in {} s", PATIENCE.as_secs()));
    answer.map_err(late)?.map_err(said)
}

/// An error with what caused it: by itself it says no more than where.
#[expect(clippy::needless_pass_by_value, reason = "the way map_err hands it")]
pub(super) fn said(error: tokio_postgres::Error) -> Error {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(why) = cause {
        // Writing to a string does not fail.
        let _written = write!(text, ": {why}");
        cause = why.source();
    }
    Error::Postgres(text)
}

impl ToSql for Value {
    fn to_sql(
        &self,
        of: &Type,
        out: &mut BytesMut,
    ) -> std::result::Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self {
            Self::Int(value) => signed(*value).to_sql(of, out),
            // The one character that it does not take.
            Self::Text(text) if text.contains('\0') => {
                text.replace('\0', "\u{fffd}").to_sql(of, out)
            }
            Self::Text(text) => (&**text).to_sql(of, out),
            Self::Bytes(bytes) => bytes.to_sql(of, out),
        }
    }

    fn accepts(of: &Type) -> bool {
        [Type::INT8, Type::TEXT, Type::BYTEA].contains(of)
    }

    tokio_postgres::types::to_sql_checked!();
}

/// TLS as the rest of Tidegate speaks it.
#[derive(Clone)]
struct Tls(TlsConnector);

struct Stream<S>(tokio_rustls::client::TlsStream<S>);

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> MakeTlsConnect<S> for Tls {
    type Stream = Stream<S>;
    type TlsConnect = Named;
    type Error = Infallible;

    fn make_tls_connect(&mut self, domain: &str) -> std::result::Result<Named, Infallible> {
        // Of a Unix socket, which needs none, there is no name.
        Ok(Named(self.clone(), ServerName::try_from(domain.to_owned())))
    }
}

/// Connects to a server of this name.
struct Named(
    Tls,
    std::result::Result<ServerName<'static>, InvalidDnsNameError>,
);

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> TlsConnect<S> for Named {
    type Stream = Stream<S>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream<S>>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        let Self(Tls(connector), name) = self;
        Box::pin(async move {
            let name = name.map_err(io::Error::other)?;
            connector.connect(name, stream).await.map(Stream)
        })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Stream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, into)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for Stream<S> {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}
