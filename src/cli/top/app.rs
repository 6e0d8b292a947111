//! What is shown and what keys do, without a terminal.

use clap::ValueEnum;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::super::table::plain;
use super::rows::{Row, client, isolation, request, upstream};
use super::shot::Shot;
use crate::admin::api::Isolate;

/// One of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum View {
    /// Upstreams and their endpoints.
    Upstreams,
    /// Clients, by what they cost.
    Clients,
    /// Requests under way, the oldest first.
    Inflight,
    /// Who is held apart.
    Isolations,
}

impl View {
    pub(super) const ALL: [Self; 4] = [
        Self::Upstreams,
        Self::Clients,
        Self::Inflight,
        Self::Isolations,
    ];

    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Upstreams => "Upstreams",
            Self::Clients => "Clients",
            Self::Inflight => "In flight",
            Self::Isolations => "Isolations",
        }
    }

    /// The headings of its columns, and how many of them are words.
    pub(super) const fn headings(self) -> (&'static [&'static str], usize) {
        match self {
            Self::Upstreams => (
                &[
                    "UPSTREAM", "STATE", "BREAKER", "LOAD", "QUEUE", "REQ/S", "ERRORS", "P50",
                    "P98",
                ],
                3,
            ),
            Self::Clients => (
                &[
                    "CLIENT", "FLAGS", "REQUESTS", "REFUSED", "10S", "OVERALL", "PEAK", "P98",
                ],
                2,
            ),
            Self::Inflight => (
                &["REQUEST", "PHASE", "UPSTREAM", "ENDPOINT", "TRY", "AGE"],
                4,
            ),
            Self::Isolations => (&["SUBJECT", "KIND", "TO", "REASON", "LEFT", "REFUSED"], 4),
        }
    }
}

/// What the proxy is asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Isolate(Isolate),
    Release(String),
}

/// What keys go to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Browse,
    /// The filter is being written.
    Filter,
    /// An isolation is being prepared.
    Form(Form),
    /// What more there is to say about a row.
    Detail(Vec<String>),
}

/// An isolation in preparation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Form {
    pub(super) kind: &'static str,
    pub(super) subject: String,
    pub(super) to: usize,
    pub(super) ttl: usize,
    pub(super) reason: String,
}

/// How somebody may be held apart, and for how long.
pub(super) const WAYS: [&str; 5] = [
    "lane",
    "throttle=1/s",
    "throttle=10/s",
    "throttle=100/s",
    "block",
];
pub(super) const TIMES: [&str; 5] = ["5m", "15m", "30m", "1h", "8h"];

/// All that is shown.
#[derive(Debug)]
pub(super) struct App {
    pub(super) view: View,
    pub(super) mode: Mode,
    pub(super) filter: String,
    pub(super) shot: Option<Shot>,
    pub(super) said: String,
    pub(super) color: bool,
    /// The selected row's place, and its key.
    selected: usize,
    key: String,
    /// The column that rows are ordered by; none: as the API orders them.
    sort: Option<usize>,
    done: bool,
}

impl App {
    pub(super) const fn new(view: View, color: bool) -> Self {
        Self {
            view,
            mode: Mode::Browse,
            filter: String::new(),
            shot: None,
            said: String::new(),
            color,
            selected: 0,
            key: String::new(),
            sort: None,
            done: false,
        }
    }

    /// Whether it is over.
    pub(super) const fn is_done(&self) -> bool {
        self.done
    }

    /// Shows this from now on.
    pub(super) fn look(&mut self, shot: Shot) {
        self.shot = Some(shot);
        let rows = self.rows();
        let same = rows.iter().position(|row| row.key == self.key);
        self.select(same.unwrap_or(self.selected), &rows);
    }

    /// Says something below the table.
    pub(super) fn say(&mut self, text: String) {
        self.said = plain(&text).into_owned();
    }

    fn select(&mut self, at: usize, rows: &[Row]) {
        self.selected = at.min(rows.len().saturating_sub(1));
        let row = rows.get(self.selected);
        self.key = row.map_or_else(String::new, |row| row.key.clone());
    }

    /// The selected row's place.
    pub(super) const fn selected(&self) -> usize {
        self.selected
    }

    /// The heading that rows are ordered by.
    pub(super) fn sorted_by(&self) -> Option<&'static str> {
        self.view.headings().0.get(self.sort?).copied()
    }

    /// The rows that pass the filter, in order.
    pub(super) fn rows(&self) -> Vec<Row> {
        let Some(shot) = &self.shot else {
            return Vec::new();
        };
        let mut rows: Vec<Row> = match self.view {
            View::Upstreams => shot
                .upstreams
                .upstreams
                .iter()
                .flat_map(|one| upstream(one, shot))
                .collect(),
            View::Clients => shot.clients.clients.iter().map(client).collect(),
            View::Inflight => shot.in_flight.requests.iter().map(request).collect(),
            View::Isolations => shot.isolations.isolations.iter().map(isolation).collect(),
        };
        rows.retain(|row| row.cells.iter().any(|cell| cell.contains(&self.filter)));
        if let Some(column) = self.sort {
            let value = |row: &Row| row.cells.get(column).map_or(0.0, |cell| number(cell));
            rows.sort_by(|one, other| value(other).total_cmp(&value(one)));
        }
        rows
    }

    /// Takes a key; what is to be done, if something is.
    pub(super) fn press(&mut self, key: KeyEvent) -> Option<Order> {
        if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
            self.done = true;
            return None;
        }
        match std::mem::replace(&mut self.mode, Mode::Browse) {
            Mode::Browse => self.browse(key.code),
            Mode::Filter => {
                self.write_filter(key.code);
                None
            }
            Mode::Form(form) => self.fill(form, key.code),
            Mode::Detail(lines) => {
                if !matches!(key.code, KeyCode::Esc | KeyCode::Enter | KeyCode::Char('q')) {
                    self.mode = Mode::Detail(lines);
                }
                None
            }
        }
    }

    fn browse(&mut self, code: KeyCode) -> Option<Order> {
        match code {
            KeyCode::Char('q') => self.done = true,
            KeyCode::Tab => self.turn(1),
            KeyCode::BackTab => self.turn(View::ALL.len() - 1),
            KeyCode::Char(digit @ '1'..='4') => {
                let at = digit.to_digit(10).unwrap_or(1) as usize - 1;
                self.turn_to(View::ALL.get(at).copied().unwrap_or(self.view));
            }
            KeyCode::Down | KeyCode::Char('j') => self.select(self.selected + 1, &self.rows()),
            KeyCode::Up | KeyCode::Char('k') => {
                self.select(self.selected.saturating_sub(1), &self.rows());
            }
            KeyCode::Char('s') => self.sort = self.next_column(),
            KeyCode::Char('/') => self.mode = Mode::Filter,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Enter => {
                if let Some(row) = self.rows().get(self.selected) {
                    self.mode = Mode::Detail(row.detail.clone());
                }
            }
            KeyCode::Char('i') => self.prepare(),
            KeyCode::Char('r') => {
                let row = self.rows().into_iter().nth(self.selected);
                return row.and_then(|row| row.releases).map(Order::Release);
            }
            _ => {}
        }
        None
    }

    fn turn(&mut self, by: usize) {
        let at = View::ALL.iter().position(|view| *view == self.view);
        let to = (at.unwrap_or(0) + by) % View::ALL.len();
        self.turn_to(View::ALL.get(to).copied().unwrap_or(self.view));
    }

    fn turn_to(&mut self, view: View) {
        if view != self.view {
            self.view = view;
            self.sort = None;
            self.select(0, &self.rows());
        }
    }

    /// The next column of numbers, and after the last none.
    fn next_column(&self) -> Option<usize> {
        let (headings, words) = self.view.headings();
        let next = self.sort.map_or(words, |column| column + 1);
        (next < headings.len()).then_some(next)
    }

    fn prepare(&mut self) {
        let row = self.rows().into_iter().nth(self.selected);
        match row.and_then(|row| row.isolates) {
            Some((kind, subject)) => {
                self.mode = Mode::Form(Form {
                    kind,
                    subject,
                    to: if kind == "endpoint" {
                        WAYS.len() - 1
                    } else {
                        0
                    },
                    ttl: 1,
                    reason: String::new(),
                });
            }
            None => self.say("what is selected cannot be isolated".to_owned()),
        }
    }

    fn write_filter(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter => return,
            KeyCode::Esc => {
                self.filter.clear();
                return;
            }
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char(letter) => self.filter.push(letter),
            _ => {}
        }
        self.mode = Mode::Filter;
        self.select(0, &self.rows());
    }

    fn fill(&mut self, mut form: Form, code: KeyCode) -> Option<Order> {
        let is_endpoint = form.kind == "endpoint";
        match code {
            KeyCode::Esc => return None,
            KeyCode::Enter if form.reason.trim().is_empty() => {
                self.say("a reason is needed: write one".to_owned());
            }
            KeyCode::Enter => return Some(Order::Isolate(form.asked(false))),
            KeyCode::Tab => {
                let order = Order::Isolate(form.asked(true));
                self.mode = Mode::Form(form);
                return Some(order);
            }
            KeyCode::Right if !is_endpoint => form.to = (form.to + 1) % WAYS.len(),
            KeyCode::Left if !is_endpoint => form.to = (form.to + WAYS.len() - 1) % WAYS.len(),
            KeyCode::Up => form.ttl = (form.ttl + 1) % TIMES.len(),
            KeyCode::Down => form.ttl = (form.ttl + TIMES.len() - 1) % TIMES.len(),
            KeyCode::Backspace => drop(form.reason.pop()),
            KeyCode::Char(letter) => form.reason.push(letter),
            _ => {}
        }
        self.mode = Mode::Form(form);
        None
    }
}

impl Form {
    fn asked(&self, preview: bool) -> Isolate {
        let word =
            |words: &[&str], at: usize| words.get(at).copied().unwrap_or_default().to_owned();
        let reason = if preview {
            "a preview"
        } else {
            self.reason.trim()
        };
        Isolate {
            kind: self.kind.to_owned(),
            subject: self.subject.clone(),
            to: Some(word(&WAYS, self.to)),
            ttl: word(&TIMES, self.ttl),
            reason: reason.to_owned(),
            preview,
        }
    }
}

/// The number that a cell begins with, its unit taken in.
fn number(cell: &str) -> f64 {
    let end = cell
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(cell.len());
    let (digits, unit) = cell.split_at(end);
    let scale = match unit {
        "ms" => 1e-3,
        _ if unit.starts_with('m') => 60.0,
        _ if unit.starts_with('h') => 3_600.0,
        _ => 1.0,
    };
    digits.parse::<f64>().unwrap_or(-1.0) * scale
}
