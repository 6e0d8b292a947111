//! `tidegate top`: upstreams, clients and requests under way in a terminal, with the verdict above them.
//!
//! One thread asks the admin API once a second; this one draws what came last and takes keys, so that a proxy that
//! answers late never makes the keyboard wait. What is shown and what keys do is in [`app`] and knows no terminal.

mod app;
mod draw;
mod rows;
mod shot;
#[cfg(test)]
mod tests;

use std::io;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel, sync_channel};
use std::time::Duration;

use clap::Args;
use ratatui::crossterm::event::{self, Event, KeyEventKind};

use self::app::{App, Order, View};
use self::shot::Shot;
use super::client::Client;
use super::query::AdminArgs;
use super::{USAGE, color, complain};
use crate::admin::api::{Isolated, Released};

/// How often the API is asked.
const REFRESH: Duration = Duration::from_secs(1);
/// How often it is looked whether something came.
const LOOK: Duration = Duration::from_millis(100);

/// What to begin with.
#[derive(Debug, Args)]
pub(super) struct TopArgs {
    /// What to show first.
    #[arg(long, value_enum, default_value = "upstreams")]
    view: View,
    #[command(flatten)]
    admin: AdminArgs,
}

pub(super) fn top(args: TopArgs) -> ExitCode {
    let Ok(client) = args.admin.client() else {
        complain("tidegate: TIDEGATE_TOKEN holds what no header can");
        return ExitCode::from(USAGE);
    };
    // What is wrong before the first answer is told where it stays.
    if let Err(error) = Shot::take(&client) {
        complain(&format!("tidegate: {error}"));
        return ExitCode::FAILURE;
    }
    let app = App::new(args.view, color(&io::stdout()));
    match show(app, client) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("tidegate: the terminal cannot be used: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn show(mut app: App, client: Client) -> io::Result<()> {
    let (orders, inbox) = channel();
    let (news, outbox) = sync_channel(1);
    std::thread::Builder::new()
        .name("ask".to_owned())
        .spawn(move || ask(&client, &inbox, |one| news.send(one).is_ok()))?;
    let mut terminal = ratatui::try_init()?;
    let result = attend(&mut terminal, &mut app, &orders, &outbox);
    ratatui::try_restore()?;
    result
}

fn attend(
    terminal: &mut ratatui::DefaultTerminal,
    app: &mut App,
    orders: &Sender<Order>,
    news: &Receiver<News>,
) -> io::Result<()> {
    let mut stale = true;
    while !app.is_done() {
        if std::mem::take(&mut stale) {
            terminal.draw(|frame| draw::draw(frame, app))?;
        }
        if event::poll(LOOK)? {
            // A key, or another size of the terminal.
            stale = true;
            if let Event::Key(key) = event::read()?
                && key.kind == KeyEventKind::Press
                && let Some(order) = app.press(key)
            {
                // Whoever takes it lives as long as this.
                drop(orders.send(order));
            }
        }
        match news.try_recv() {
            Ok(News::Shot(shot)) => app.look(*shot),
            Ok(News::Said(text)) => app.say(text),
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => continue,
        }
        stale = true;
    }
    Ok(())
}

/// What the asking thread has to tell.
enum News {
    Shot(Box<Shot>),
    Said(String),
}

/// Asks until nobody listens.
fn ask(client: &Client, orders: &Receiver<Order>, mut tell: impl FnMut(News) -> bool) {
    loop {
        let news = match Shot::take(client) {
            Ok(shot) => News::Shot(Box::new(shot)),
            Err(error) => News::Said(error.to_string()),
        };
        if !tell(news) {
            return;
        }
        match orders.recv_timeout(REFRESH) {
            Ok(order) => {
                if !tell(News::Said(carry_out(client, &order))) {
                    return;
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Does what was ordered, and says how it went.
fn carry_out(client: &Client, order: &Order) -> String {
    let said = match order {
        Order::Isolate(asked) => {
            let body = serde_json::to_vec(asked).unwrap_or_default();
            let done = client.post::<Isolated>("/api/v1/isolations", body);
            done.map(|(done, _)| {
                let preview = done.preview.map_or_else(String::new, |preview| {
                    format!(
                        ", would have refused {} of {} in the last minute",
                        preview.would_refuse, preview.requests
                    )
                });
                let word = if asked.preview { "would be" } else { "is" };
                format!("{} {word} in {}{preview}", asked.subject, done.to)
            })
        }
        Order::Release(id) => {
            let path = format!("/api/v1/isolations/{id}?reason=released%20from%20top");
            let done = client.delete::<Released>(&path);
            done.map(|(done, _)| format!("{} is released", done.isolation.subject))
        }
    };
    said.unwrap_or_else(|error| error.to_string())
}
