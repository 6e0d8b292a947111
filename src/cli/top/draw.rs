//! The picture: the verdict, the tables, what keys do. Fits 80 columns, and says with words and signs what it also says
//! with colours.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Cell, Clear, Paragraph, Row as TableRow, Table, TableState};

use super::super::table::{age, percent, plain, shortened};
use super::app::{App, Form, Mode, TIMES, View, WAYS};
use super::rows::{Alarm, Row};
use super::shot::Shot;

/// Lines that the verdict takes.
const VERDICT: u16 = 3;

/// Draws `app`.
pub(super) fn draw(frame: &mut Frame<'_>, app: &App) {
    let areas = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(VERDICT),
        Constraint::Length(1),
        Constraint::Min(3),
        Constraint::Length(1),
        Constraint::Length(1),
    ]);
    let [top, verdict, tabs, table, said, keys] = areas.areas(frame.area());
    let Some(shot) = &app.shot else {
        frame.render_widget("asking …", top);
        return;
    };
    frame.render_widget(header(shot), top);
    frame.render_widget(Paragraph::new(verdicts(shot, app, verdict.width)), verdict);
    frame.render_widget(views(app), tabs);
    rows(frame, app, table);
    frame.render_widget(
        Line::raw(shortened(&app.said, said.width.into()).into_owned()),
        said,
    );
    frame.render_widget(Line::from(help(app)).style(bold()), keys);
    match &app.mode {
        Mode::Form(form) => popup(frame, "isolate", &fields(form)),
        Mode::Detail(lines) => popup(frame, "Esc closes", lines),
        Mode::Browse | Mode::Filter => {}
    }
}

fn bold() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}

fn tone(app: &App, alarm: Alarm) -> Style {
    match alarm {
        Alarm::None => Style::new(),
        _ if !app.color => bold(),
        Alarm::Warning => Style::new().fg(Color::Yellow),
        Alarm::Bad => bold().fg(Color::Red),
    }
}

fn header(shot: &Shot) -> Line<'static> {
    let status = &shot.status;
    let exchanges = &status.exchanges;
    let mut text = format!(
        "tidegate {}  up {}  {} connections  {} in flight  {} failed",
        plain(&status.version),
        age(status.uptime_seconds),
        status.connections,
        shot.in_flight.total,
        percent(exchanges.errors, exchanges.total),
    );
    if status.draining {
        text.push_str("  DRAINING");
    }
    Line::styled(text, bold())
}

/// The first verdict and what to do about it.
fn verdicts(shot: &Shot, app: &App, width: u16) -> Vec<Line<'static>> {
    let short = |text: &str| shortened(text, width.into()).into_owned();
    let Some(first) = shot.diagnosis.verdicts.first() else {
        return vec![Line::raw(if shot.diagnosis.lagging {
            "◇ clients suffer, and no cause is sure enough yet"
        } else {
            "◇ nothing is wrong"
        })];
    };
    let more = match shot.diagnosis.verdicts.len() {
        1 => String::new(),
        count => format!(" (and {} more)", count - 1),
    };
    let (cause, subject) = (plain(&first.cause), plain(&first.subject));
    let said = format!(
        "◆ {cause} {subject}, {:.0}% sure{more}",
        first.confidence * 100.0
    );
    let advice = plain(&first.advice);
    let at = advice.find(": tidegate ").map_or(0, |at| at + 2);
    let command = advice.get(at..).unwrap_or(&advice);
    vec![
        Line::styled(short(&said), tone(app, Alarm::Bad)),
        Line::raw(short(&format!(
            "  → {}",
            advice.get(..at).unwrap_or_default()
        ))),
        Line::raw(short(&format!("    {command}"))),
    ]
}

fn views(app: &App) -> Line<'static> {
    let mut spans = Vec::new();
    for (number, view) in (1..).zip(View::ALL) {
        let (text, style) = if view == app.view {
            (format!("[{number} {}] ", view.title()), bold())
        } else {
            (format!(" {number} {}  ", view.title()), Style::new())
        };
        spans.push(Span::styled(text, style));
    }
    if let Some(by) = app.sorted_by() {
        spans.push(Span::raw(format!("  by {by}")));
    }
    if !app.filter.is_empty() || app.mode == Mode::Filter {
        spans.push(Span::raw(format!("  /{}", app.filter)));
    }
    Line::from(spans)
}

fn rows(frame: &mut Frame<'_>, app: &App, area: Rect) {
    let (headings, words) = app.view.headings();
    let all = app.rows();
    let widths = widths(headings, &all, area.width);
    let cell = |column: usize, text: &str| {
        let width = widths.get(column).copied().unwrap_or_default();
        let text = shortened(text, width).into_owned();
        if column < words {
            text
        } else {
            format!("{text:>width$}")
        }
    };
    let heading = headings.iter().enumerate();
    let heading = TableRow::new(heading.map(|(column, text)| Cell::new(cell(column, text))));
    let rows = all.iter().map(|row| {
        let cells = row.cells.iter().enumerate();
        TableRow::new(cells.map(|(column, text)| Cell::new(cell(column, text))))
            .style(tone(app, row.alarm))
    });
    let lengths = widths
        .iter()
        .map(|width| u16::try_from(*width).unwrap_or(u16::MAX));
    let table = Table::new(rows, lengths.map(Constraint::Length))
        .header(heading.style(bold()))
        .highlight_symbol("> ")
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut state = TableState::default().with_selected((!all.is_empty()).then(|| app.selected()));
    frame.render_stateful_widget(table, area, &mut state);
}

/// As wide as the widest cell; what does not fit is taken from the first column.
fn widths(headings: &[&str], rows: &[Row], width: u16) -> Vec<usize> {
    let mut widths: Vec<usize> = headings.iter().map(|heading| heading.len()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(&row.cells) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let marker = 2;
    let whole = widths.iter().sum::<usize>() + widths.len().saturating_sub(1) + marker;
    let over = whole.saturating_sub(width.into());
    if let Some(first) = widths.first_mut() {
        *first = first.saturating_sub(over).max(8);
    }
    widths
}

fn help(app: &App) -> &'static str {
    match &app.mode {
        Mode::Browse if app.view == View::Isolations => {
            "q quit  Tab view  ↑↓ select  Enter detail  r release  s sort  / filter"
        }
        Mode::Browse => "q quit  Tab view  ↑↓ select  Enter detail  i isolate  s sort  / filter",
        Mode::Filter => "write what rows must contain; Enter keeps it, Esc clears it",
        Mode::Form(_) => "←→ how  ↑↓ how long  Tab preview  Enter do it  Esc leave",
        Mode::Detail(_) => "Esc closes",
    }
}

fn fields(form: &Form) -> Vec<String> {
    vec![
        format!("{} {}", form.kind, plain(&form.subject)),
        format!(
            "to      ‹ {} ›",
            WAYS.get(form.to).copied().unwrap_or_default()
        ),
        format!(
            "ttl     ‹ {} ›",
            TIMES.get(form.ttl).copied().unwrap_or_default()
        ),
        format!("reason  {}_", form.reason),
    ]
}

/// A box in the middle.
fn popup(frame: &mut Frame<'_>, title: &str, lines: &[String]) {
    let area = frame.area();
    let longest = lines
        .iter()
        .map(|line| line.chars().count())
        .max()
        .unwrap_or(0)
        .max(30);
    let fits = |wanted: usize, most: u16| u16::try_from(wanted).unwrap_or(most).min(most);
    let (width, height) = (
        fits(longest + 4, area.width),
        fits(lines.len() + 2, area.height),
    );
    let place = Rect {
        x: area.x + (area.width - width) / 2,
        y: area.y + (area.height - height) / 2,
        width,
        height,
    };
    let lines: Vec<Line<'_>> = lines
        .iter()
        .map(|line| Line::raw(format!(" {line}")))
        .collect();
    frame.render_widget(Clear, place);
    frame.render_widget(
        Paragraph::new(lines).block(Block::bordered().title(title)),
        place,
    );
}
