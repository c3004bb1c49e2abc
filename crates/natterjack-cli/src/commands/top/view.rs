//! What the terminal shows: state, looks and a time make a picture. Nothing is asked and no key is read here.

use std::time::Instant;

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph, Widget as _, Wrap};
use unicode_width::UnicodeWidthStr as _;

use super::looks::{Extent, Looks, Overlay, Typing};
use super::rates::Rates;
use super::screens::{self, Screen};
use super::state::{Server, Standing, State};
use super::table::{self, ColumnKind, Row};
use super::words;
use crate::escape::escaped;

/// From so many columns on the lines over time are beside each other.
const BESIDE_COLUMNS_MIN: u16 = 100;

/// From so many lines on they are higher than one.
const TALL_LINES_MIN: u16 = 30;
const CHART_LINES: u16 = 3;

/// Columns of the words before a line over time.
const RATE_COLUMNS: u16 = 28;

/// Lines that tell of servers that do not answer, at most.
const PROBLEMS_MAX: usize = 2;

const BLOCKS: [&str; 9] = [" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"];

/// Colours, or none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Theme {
    pub(super) has_colours: bool,
}

impl Theme {
    fn coloured(self, colour: Color, otherwise: Modifier) -> Style {
        if self.has_colours {
            Style::new().fg(colour)
        } else {
            Style::new().add_modifier(otherwise)
        }
    }

    fn bad(self) -> Style {
        self.coloured(Color::Red, Modifier::BOLD | Modifier::UNDERLINED)
            .add_modifier(Modifier::BOLD)
    }

    fn received(self) -> Style {
        self.coloured(Color::Cyan, Modifier::empty())
    }

    fn sent(self) -> Style {
        self.coloured(Color::Green, Modifier::empty())
    }
}

const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
const SOFT: Style = Style::new().add_modifier(Modifier::DIM);
const CHOSEN: Style = Style::new().add_modifier(Modifier::REVERSED);

/// Where things are on the terminal, from top to bottom.
struct Places {
    title: Rect,
    received: Rect,
    sent: Rect,
    facts: Rect,
    problems: Rect,
    tabs: Rect,
    body: Rect,
    footer: Rect,
}

impl Places {
    fn of(area: Rect, problems: usize) -> Self {
        let is_beside = area.width >= BESIDE_COLUMNS_MIN;
        let chart_lines = if area.height >= TALL_LINES_MIN {
            CHART_LINES
        } else {
            1
        };
        let mut rest = area;
        let title = take(&mut rest, 1);
        // The last line is what people need most where there are few.
        let footer = {
            let height = rest.height.min(1);
            rest.height -= height;
            Rect {
                y: rest.y + rest.height,
                height,
                ..rest
            }
        };
        let (received, sent) = if is_beside {
            let both = take(&mut rest, chart_lines);
            let half = both.width / 2;
            let left = Rect {
                width: half.saturating_sub(2),
                ..both
            };
            let right = Rect {
                x: both.x + half,
                width: both.width - half,
                ..both
            };
            (left, right)
        } else {
            (take(&mut rest, chart_lines), take(&mut rest, chart_lines))
        };
        let facts = take(&mut rest, 1);
        let problems = take(&mut rest, u16::try_from(problems).unwrap_or(u16::MAX));
        let tabs = take(&mut rest, 1);
        Self {
            title,
            received,
            sent,
            facts,
            problems,
            tabs,
            body: rest,
            footer,
        }
    }
}

fn take(rest: &mut Rect, lines: u16) -> Rect {
    let height = lines.min(rest.height);
    let taken = Rect { height, ..*rest };
    rest.y += height;
    rest.height -= height;
    taken
}

/// Writes in a line from a column on, if they are on the terminal; returns the column behind it.
fn put(
    buffer: &mut Buffer,
    x: u16,
    y: u16,
    text: impl AsRef<str>,
    width: usize,
    style: impl Into<Style>,
) -> u16 {
    if x >= buffer.area.right() || y >= buffer.area.bottom() {
        return x;
    }
    buffer.set_stringn(x, y, text, width, style).0
}

/// Draws all of it, and tells what there is to be seen.
pub(super) fn draw(
    frame: &mut Frame<'_>,
    state: &State,
    looks: &Looks,
    rows: &[Row],
    now: Instant,
    theme: Theme,
) -> Extent {
    let area = frame.area();
    let buffer = frame.buffer_mut();
    let problems = problems(state, now);
    let places = Places::of(area, problems.len().min(PROBLEMS_MAX));
    title(buffer, places.title, state, looks);
    charts(buffer, &places, state, theme);
    facts(buffer, places.facts, state, theme);
    show_problems(buffer, places.problems, &problems, theme);
    tabs(buffer, places.tabs, state, looks, rows.len());
    let mut extent = Extent {
        rows: rows.iter().map(|row| row.id.clone()).collect(),
        page: usize::from(places.body.height.saturating_sub(1)),
        columns: Vec::new(),
        servers: state.servers.len(),
    };
    let is_nothing_known = state.varz().next().is_none();
    if is_nothing_known && looks.screen != Screen::Servers {
        waiting(buffer, places.body, state, now, theme);
    } else if looks.screen == Screen::Details {
        let lines = details(buffer, places.body, state, looks, now, theme);
        extent.rows = (0..lines).map(|line| line.to_string()).collect();
        extent.page = usize::from(places.body.height);
    } else {
        extent.columns = listing(buffer, places.body, looks, rows, theme);
    }
    footer(buffer, places.footer, looks, theme);
    match &looks.overlay {
        Some(Overlay::Help) => help(buffer, area),
        Some(Overlay::Row(id)) => {
            if let Some(row) = rows.iter().find(|row| row.id == *id) {
                all_of_a_row(buffer, area, looks.screen, row, theme);
            }
        }
        None => {}
    }
    extent
}

fn title(buffer: &mut Buffer, area: Rect, state: &State, looks: &Looks) {
    let left = match &state.servers[..] {
        [server] => {
            let mut parts = vec![server.name().to_owned()];
            if let Some(varz) = server.varz() {
                parts.push(screens::product(varz));
                parts.push(format!("up {}", short_uptime(&varz.uptime)));
            }
            parts.join(" · ")
        }
        servers => {
            let answering = servers
                .iter()
                .filter(|it| it.standing == Standing::Answering);
            let mut clusters: Vec<_> = state
                .varz()
                .map(|varz| varz.cluster.name.as_str())
                .collect();
            clusters.retain(|name| !name.is_empty());
            clusters.sort_unstable();
            clusters.dedup();
            let all = servers.len() + state.unasked.len();
            let count = format!("{} of {all} servers answer", answering.count());
            clusters.truncate(3);
            clusters.push(&count);
            clusters.join(" · ")
        }
    };
    let (right, right_style) = if looks.is_paused {
        (" PAUSED ".to_owned(), CHOSEN.add_modifier(Modifier::BOLD))
    } else {
        (format!("every {:?}", looks.interval), SOFT)
    };
    let width = usize::from(area.width);
    let room = width.saturating_sub(right.width() + 1);
    let left = table::clipped(&escaped(&left), room);
    put(buffer, area.x, area.y, &left, width, BOLD);
    if area.height > 0 && right.width() <= width {
        let x = area.x + area.width - right.width() as u16;
        put(buffer, x, area.y, &right, width, right_style);
    }
}

fn short_uptime(text: &str) -> String {
    words::span(words::duration(text).unwrap_or_default())
}

fn charts(buffer: &mut Buffer, places: &Places, state: &State, theme: Theme) {
    let now = state.rates();
    let lines: [(&str, Rect, Style, Direction); 2] = [
        ("In ", places.received, theme.received(), |rates| {
            (rates.in_msgs, rates.in_bytes)
        }),
        ("Out", places.sent, theme.sent(), |rates| {
            (rates.out_msgs, rates.out_bytes)
        }),
    ];
    for (name, area, style, of) in lines {
        chart(buffer, area, state, name, style, now, of);
    }
}

/// Messages and bytes of one direction.
type Direction = fn(&Rates) -> (f64, f64);

fn chart(
    buffer: &mut Buffer,
    area: Rect,
    state: &State,
    name: &str,
    style: Style,
    now: Option<Rates>,
    of: Direction,
) {
    if area.height == 0 {
        return;
    }
    let words = match now.as_ref().map(of) {
        Some((messages, bytes)) => {
            format!(
                "{name} {:>6}/s {:>9}/s",
                words::count(messages),
                words::bytes(bytes)
            )
        }
        None => format!("{name}      –           –"),
    };
    put(
        buffer,
        area.x,
        area.y,
        &words,
        usize::from(area.width),
        style.patch(BOLD),
    );
    let width = area.width.saturating_sub(RATE_COLUMNS);
    let past = state.history.iter().rev().take(usize::from(width));
    let past: Vec<f64> = past.map(|rates| of(rates).0).collect();
    let most = past.iter().copied().fold(0.0, f64::max);
    if area.height >= CHART_LINES && most > 0.0 {
        let text = format!("    {:>6}/s most", words::count(most));
        let room = usize::from(area.width.min(RATE_COLUMNS));
        put(buffer, area.x, area.y + 1, text, room, SOFT);
    }
    for (line, bars) in bars(&past, most, usize::from(width), area.height)
        .into_iter()
        .enumerate()
    {
        let x = area.x + area.width.min(RATE_COLUMNS);
        put(
            buffer,
            x,
            area.y + line as u16,
            bars,
            usize::from(width),
            style,
        );
    }
}

/// A bar for each number, the newest one first in the list and rightmost in the picture; from the top line to the bottom one.
fn bars(newest_first: &[f64], most: f64, width: usize, height: u16) -> Vec<String> {
    let steps = f64::from(height) * 8.0;
    let level = |number: f64| match most {
        ..=0.0 => 0,
        // What is there at all is seen.
        most => ((number / most * steps).round() as usize).max(usize::from(number > 0.0)),
    };
    let levels: Vec<usize> = newest_first.iter().map(|number| level(*number)).collect();
    let blank = width.saturating_sub(levels.len());
    let line = |below: usize| {
        let bars = levels.iter().rev();
        let bars = bars.map(|level| BLOCKS[level.saturating_sub(below * 8).min(8)]);
        format!("{}{}", " ".repeat(blank), bars.collect::<String>())
    };
    (0..usize::from(height)).rev().map(line).collect()
}

fn facts(buffer: &mut Buffer, area: Rect, state: &State, theme: Theme) {
    if state.varz().next().is_none() {
        return;
    }
    let slow = state.sum(|varz| varz.slow_consumers);
    let behind = state.slow().iter().filter(|view| view.is_open).count();
    let cpu: f64 = state.varz().map(|varz| varz.cpu).sum();
    let mut facts = vec![
        (
            "Conns",
            words::count(state.connections_total() as f64),
            false,
        ),
        ("Slow", words::count(slow as f64), slow > 0),
        ("CPU", format!("{cpu:.0}%"), false),
        (
            "Mem",
            words::bytes(state.sum(|varz| varz.mem) as f64),
            false,
        ),
    ];
    if behind > 0 {
        facts.insert(2, ("Behind", behind.to_string(), true));
    }
    if let Some((end, now)) = state.certificate_end() {
        let is_ending = screens::is_ending(words::between(now, end));
        let fact = ("Cert", words::left(end, now), is_ending);
        facts.insert(if is_ending { 2 } else { facts.len() }, fact);
    }
    let buses: Vec<bool> = state
        .servers
        .iter()
        .filter_map(screens::bus_is_well)
        .collect();
    if !buses.is_empty() {
        let ill = buses.iter().filter(|is_well| !**is_well).count();
        let words = match (ill, buses.len()) {
            (0, _) => "well".to_owned(),
            (1, 1) => "not well".to_owned(),
            (ill, all) => format!("{ill} of {all} not well"),
        };
        facts.push(("Bus", words, ill > 0));
    }
    facts.push((
        "Subs",
        words::count(state.sum(|varz| varz.subscriptions) as f64),
        false,
    ));
    let stored: Vec<_> = state
        .varz()
        .filter_map(|varz| varz.jetstream.stats.as_ref())
        .collect();
    if !stored.is_empty() {
        let bytes: u64 = stored
            .iter()
            .map(|stats| stats.storage + stats.memory)
            .sum();
        facts.push(("JetStream", words::bytes(bytes as f64), false));
    }
    let mut x = area.x;
    for (name, value, is_bad) in facts {
        let width = (name.width() + 1 + value.width()) as u16;
        if area.height == 0 || x + width > area.x + area.width {
            continue;
        }
        let style = if is_bad { theme.bad() } else { BOLD };
        let line = Line::from(vec![
            Span::styled(format!("{name} "), SOFT),
            Span::styled(value, style),
        ]);
        if area.y < buffer.area.bottom() {
            buffer.set_line(x, area.y, &line, width);
        }
        x += width + 2;
    }
}

/// Who does not answer, why and since when; and who cannot be asked.
fn problems(state: &State, now: Instant) -> Vec<String> {
    let mut problems = Vec::new();
    let ago = |since: Instant| words::span(now.saturating_duration_since(since));
    if let Some((since, problem)) = &state.problem {
        problems.push(format!("for {}: {problem}", ago(*since)));
    }
    let is_something_known = state.varz().next().is_some();
    for server in &state.servers {
        if let Standing::Failing { since, problem } = &server.standing
            && is_something_known
        {
            let name = server.name();
            problems.push(format!(
                "{name} does not answer for {}: {problem}",
                ago(*since)
            ));
        }
    }
    for member in state.unasked.values() {
        problems.push(format!(
            "{} cannot be asked: {}",
            member.name, member.reason
        ));
    }
    problems.iter().map(|problem| escaped(problem)).collect()
}

fn show_problems(buffer: &mut Buffer, area: Rect, problems: &[String], theme: Theme) {
    let width = usize::from(area.width);
    let lines = usize::from(area.height);
    for (line, problem) in problems.iter().take(lines).enumerate() {
        let left = problems.len() - line;
        let is_last = line + 1 == lines;
        let text = if is_last && left > 1 {
            format!("({} more, see 2) {problem}", left - 1)
        } else {
            problem.clone()
        };
        let y = area.y + line as u16;
        put(
            buffer,
            area.x,
            y,
            table::clipped(&text, width),
            width,
            theme.bad(),
        );
    }
}

fn tabs(buffer: &mut Buffer, area: Rect, state: &State, looks: &Looks, shown: usize) {
    if area.height == 0 {
        return;
    }
    let listed = match looks.screen {
        Screen::Connections => {
            let total = usize::try_from(state.connections_total()).unwrap_or(usize::MAX);
            (shown < total).then(|| format!("{shown} of {}", words::exact(total as u64)))
        }
        _ => None,
    };
    let filter = (!looks.filter.is_empty()).then(|| format!("/{}", escaped(&looks.filter)));
    let note: Vec<String> = [listed, filter].into_iter().flatten().collect();
    let note = note.join(" ");
    let width = usize::from(area.width);
    let named = |title: fn(Screen) -> &'static str| -> Vec<String> {
        let titles = Screen::ALL.iter().enumerate();
        titles
            .map(|(at, screen)| format!("{} {}", at + 1, title(*screen)))
            .collect()
    };
    let taken = |titles: &[String]| titles.iter().map(|title| title.width() + 2).sum::<usize>();
    let long = named(Screen::title);
    let titles = if taken(&long) + note.width() <= width {
        long
    } else {
        named(Screen::short_title)
    };
    let is_tight = taken(&titles) > width;
    let mut x = area.x;
    for (screen, title) in Screen::ALL.into_iter().zip(titles) {
        let title = if is_tight {
            title.replace(' ', "")
        } else {
            title
        };
        let style = if screen == looks.screen {
            CHOSEN
        } else {
            Style::new()
        };
        let room = usize::from(area.right().saturating_sub(x));
        let after = put(buffer, x, area.y, &title, room, style);
        x = (after + if is_tight { 1 } else { 2 }).min(area.right());
    }
    let room = usize::from(area.right().saturating_sub(x));
    let note = table::clipped(&note, room);
    let at = area.right().saturating_sub(note.width() as u16);
    put(buffer, at, area.y, &note, room, BOLD);
}

fn listing(
    buffer: &mut Buffer,
    area: Rect,
    looks: &Looks,
    rows: &[Row],
    theme: Theme,
) -> Vec<usize> {
    let columns = looks.screen.columns();
    let order = looks.order();
    let wanted = table::worthwhile(columns, rows, looks.figures);
    let width = usize::from(area.width);
    let fitted = table::fit(columns, rows, &wanted, order.column, width);
    if area.height == 0 {
        return Vec::new();
    }
    let mut x = area.x;
    for (at, width) in &fitted {
        let column = &columns[*at];
        let is_sorted = *at == order.column;
        let mark = match order.is_descending(columns) {
            true => "▾",
            false => "▴",
        };
        let mut text = column.title.to_owned();
        if is_sorted && text.width() < *width {
            text.push_str(mark);
        }
        let style = if is_sorted {
            BOLD.add_modifier(Modifier::UNDERLINED)
        } else {
            SOFT
        };
        let text = table::padded(&text, *width, column.kind.is_right_aligned());
        put(buffer, x, area.y, text, *width, style);
        x += (*width + table::GAP) as u16;
    }
    let page = usize::from(area.height - 1);
    if rows.is_empty() && page > 0 {
        let text = if looks.filter.is_empty() {
            looks.screen.nothing().to_owned()
        } else {
            format!(
                "Nothing matches {}; Esc ends the filter.",
                escaped(&looks.filter)
            )
        };
        put(
            buffer,
            area.x,
            area.y + 1,
            text,
            usize::from(area.width),
            SOFT,
        );
    }
    let cursor = looks.cursor().min(rows.len().saturating_sub(1));
    let first = first_shown(cursor, rows.len(), page);
    for (line, row) in rows.iter().skip(first).take(page).enumerate() {
        let y = area.y + 1 + line as u16;
        let is_chosen = first + line == cursor;
        let base = if is_chosen { CHOSEN } else { Style::new() };
        if is_chosen {
            buffer.set_style(
                Rect {
                    y,
                    height: 1,
                    ..area
                },
                CHOSEN,
            );
        }
        let mut x = area.x;
        for (at, width) in &fitted {
            let cell = &row.cells[*at];
            let style = if cell.is_bad {
                base.patch(theme.bad())
            } else {
                base
            };
            let kind = columns[*at].kind;
            let shortened = match kind {
                ColumnKind::Text | ColumnKind::Extra => table::shortened(&cell.text, *width),
                _ => table::clipped(&cell.text, *width),
            };
            let text = table::padded(&shortened, *width, kind.is_right_aligned());
            put(buffer, x, y, text, *width, style);
            x += (*width + table::GAP) as u16;
        }
    }
    fitted.into_iter().map(|(at, _)| at).collect()
}

/// The first row to show, so that the cursor is in the middle where it can be.
fn first_shown(cursor: usize, rows: usize, page: usize) -> usize {
    cursor
        .saturating_sub(page / 2)
        .min(rows.saturating_sub(page))
}

fn details(
    buffer: &mut Buffer,
    area: Rect,
    state: &State,
    looks: &Looks,
    now: Instant,
    theme: Theme,
) -> usize {
    let at = looks.server.min(state.servers.len().saturating_sub(1));
    let Some(server) = state.servers.get(at) else {
        return 0;
    };
    let mut lines = Vec::new();
    if state.servers.len() > 1 {
        let which = format!("{} of {}, others with [ and ]", at + 1, state.servers.len());
        lines.push(("Which".to_owned(), which));
    }
    lines.extend(screens::details(server, now));
    let wanted = looks.filter.trim().to_lowercase();
    lines.retain(|(what, value)| format!("{what} {value}").to_lowercase().contains(&wanted));
    let key_width = (usize::from(area.width) * 2 / 5).min(24);
    let page = usize::from(area.height);
    let last = lines.len().saturating_sub(page);
    let first = looks.cursor().min(last);
    for (line, (what, value)) in lines.iter().skip(first).take(page).enumerate() {
        let y = area.y + line as u16;
        let is_bad = what == "State" && matches!(server.standing, Standing::Failing { .. });
        let style = if is_bad { theme.bad() } else { Style::new() };
        pair(
            buffer,
            Rect {
                y,
                height: 1,
                ..area
            },
            key_width,
            what,
            value,
            style,
        );
    }
    lines.len()
}

/// What something is, and its value.
fn pair(buffer: &mut Buffer, area: Rect, key_width: usize, key: &str, value: &str, style: Style) {
    let key = table::padded(key, key_width, false);
    put(buffer, area.x, area.y, key, key_width, SOFT);
    let room = usize::from(area.width).saturating_sub(key_width + 1);
    let x = area.x + key_width as u16 + 1;
    put(buffer, x, area.y, table::clipped(value, room), room, style);
}

/// Nothing has been heard of anybody: why, in full, since it says what to do about it.
fn waiting(buffer: &mut Buffer, area: Rect, state: &State, now: Instant, theme: Theme) {
    let mut lines: Vec<Line<'_>> = Vec::new();
    for server in &state.servers {
        lines.push(Line::default());
        lines.extend(waiting_for(server, now, theme));
    }
    Paragraph::new(lines)
        .wrap(Wrap { trim: false })
        .render(area, buffer);
}

fn waiting_for(server: &Server, now: Instant, theme: Theme) -> Vec<Line<'static>> {
    let address = escaped(&server.address);
    match &server.standing {
        Standing::Waiting | Standing::Answering => {
            vec![Line::styled(format!("Waiting for {address} …"), BOLD)]
        }
        Standing::Failing { since, problem } => {
            let time = words::span(now.saturating_duration_since(*since));
            vec![
                Line::styled(format!("{address} does not answer for {time}"), theme.bad()),
                Line::raw(escaped(problem)),
                Line::styled("It is asked again and again.", SOFT),
            ]
        }
    }
}

fn footer(buffer: &mut Buffer, area: Rect, looks: &Looks, theme: Theme) {
    if area.height == 0 {
        return;
    }
    let width = usize::from(area.width);
    let (text, style) = match &looks.typing {
        Some(Typing::Filter { .. }) => {
            let text = format!(
                "Filter: {}█  Enter keeps it, Esc does not",
                escaped(&looks.filter)
            );
            (text, BOLD)
        }
        Some(Typing::Sort { text, is_wrong }) => {
            let names = looks.screen.columns().iter().map(|column| column.key);
            let names: Vec<_> = names.filter(|key| !key.starts_with("total_")).collect();
            let names = names.join(" ");
            let text = escaped(text);
            match is_wrong {
                false => (format!("Sort by: {text}█  {names}"), BOLD),
                true => (format!("Sort by: {text}█ is none of {names}"), theme.bad()),
            }
        }
        None => {
            const HINTS: [&str; 9] = [
                "q quit",
                "? help",
                "/ filter",
                "o sort",
                "r reverse",
                "p pause",
                "t totals",
                "Tab next",
                "Enter all",
            ];
            let mut line = String::new();
            for hint in HINTS {
                if line.width() + hint.width() + 2 <= width {
                    line.push_str(hint);
                    line.push_str("  ");
                }
            }
            (line, SOFT)
        }
    };
    put(
        buffer,
        area.x,
        area.y,
        table::clipped(text.trim_end(), width),
        width,
        style,
    );
}

const HELP: [(&str, &str); 17] = [
    ("1-6, Tab", "another screen"),
    ("Up Down PgUp PgDn", "another row; also j k g G"),
    ("Enter", "all about a row"),
    ("/", "filter: rows with this text"),
    ("Esc", "end the filter, close this"),
    ("o", "sort by a column, by its name"),
    ("< >", "sort by the next column"),
    ("r", "the other way round"),
    ("t", "totals instead of rates"),
    ("p, Space", "pause, and go on"),
    ("+ -", "ask less often, more often"),
    ("[ ]", "another server's details"),
    ("q, Ctrl-C", "quit"),
    ("", ""),
    ("In, Out", "what servers received and sent"),
    ("PENDING", "bytes that wait to be sent"),
    ("–", "not known"),
];

fn help(buffer: &mut Buffer, area: Rect) {
    let width = area.width.min(54);
    let lines = HELP.len() as u16;
    let inner = window(buffer, area, " Keys ", width, lines);
    for (line, (key, what)) in HELP.iter().take(usize::from(inner.height)).enumerate() {
        let y = inner.y + line as u16;
        let key_width = if inner.width < 40 { 9 } else { 18 };
        let row = Rect {
            y,
            height: 1,
            ..inner
        };
        pair(buffer, row, key_width, key, what, Style::new());
    }
}

fn all_of_a_row(buffer: &mut Buffer, area: Rect, screen: Screen, row: &Row, theme: Theme) {
    let columns = screen.columns().iter().zip(&row.cells);
    let cells: Vec<_> = columns.filter(|(_, cell)| !cell.text.is_empty()).collect();
    let lines = cells.len() as u16;
    let inner = window(buffer, area, " All about it ", area.width.min(76), lines);
    for (line, (column, cell)) in cells.iter().take(usize::from(inner.height)).enumerate() {
        let y = inner.y + line as u16;
        let style = if cell.is_bad {
            theme.bad()
        } else {
            Style::new()
        };
        let row = Rect {
            y,
            height: 1,
            ..inner
        };
        pair(buffer, row, 12, column.title, &cell.text, style);
    }
}

/// A frame in the middle with an empty inside, as high as it is to be if there is room.
fn window(buffer: &mut Buffer, area: Rect, title: &str, width: u16, lines: u16) -> Rect {
    let height = (lines + 2).min(area.height);
    let outer = Rect {
        x: area.x + (area.width - width) / 2,
        y: area.y + (area.height - height) / 2,
        width,
        height,
    };
    Clear.render(outer, buffer);
    let block = Block::bordered().title(title);
    let inner = block.inner(outer);
    block.render(outer, buffer);
    inner
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use serde_json::json;

    use super::super::state::Unasked;
    use super::super::state::tests::{begin, sample};
    use super::*;

    const PLAIN: Theme = Theme { has_colours: false };

    fn known(addresses: &[&str], now: Instant) -> State {
        let mut state = State::new(addresses.iter().map(|address| (*address).to_owned()));
        for (second, count) in [(0, 0_u64), (1, 1234)] {
            for address in addresses {
                let connections: Vec<_> = (1..=30)
                    .map(|cid| {
                        json!({
                            "cid": cid, "name": format!("client-{cid:02}"), "in_msgs": cid * count,
                            "out_msgs": (31 - cid) * count, "rtt": "1ms", "ip": "127.0.0.1", "port": 4000 + cid,
                        })
                    })
                    .collect();
                let pages = json!({
                    "varz": {
                        "server_id": address, "server_name": format!("n-{address}"), "go": "natterjack 0.1.0",
                        "in_msgs": count, "out_msgs": 2 * count, "in_bytes": 100 * count, "cpu": 3.0,
                        "mem": 34_000_000, "uptime": "3d4h5m6s", "slow_consumers": 1,
                        "cluster": {"name": "C", "tls_cert_not_after": "2026-11-25T10:00:00Z"},
                    },
                    "connz": {"total": 40, "connections": connections},
                    "bus": {"health": {"is_healthy": false}},
                });
                let at = now + Duration::from_secs(second);
                state.hear(address, at, Ok(sample(second, &pages)));
            }
            state.record();
        }
        state
    }

    fn looks() -> Looks {
        Looks::new(Screen::Connections, Duration::from_secs(1))
    }

    fn picture(state: &State, looks: &Looks, now: Instant, columns: u16, lines: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(columns, lines)).unwrap();
        let rows = looks.rows(state, now);
        terminal
            .draw(|frame| {
                draw(frame, state, looks, &rows, now, PLAIN);
            })
            .unwrap();
        let buffer = terminal.backend().buffer();
        let lines = buffer.content().chunks(usize::from(columns));
        let lines: Vec<String> = lines
            .map(|cells| {
                let line: String = cells.iter().map(|cell| cell.symbol()).collect();
                line.trim_end().to_owned()
            })
            .collect();
        lines.join("\n")
    }

    #[test]
    fn eighty_columns() {
        let now = begin();
        let shown = picture(&known(&["a"], now), &looks(), now, 80, 12);
        let lines: Vec<_> = shown.lines().collect();
        assert_eq!(
            lines[0],
            "n-a · natterjack 0.1.0 · up 3d4h                                        every 1s"
        );
        assert!(lines[1].starts_with("In   1.23k/s    121KiB/s"), "{shown}");
        assert!(lines[1].ends_with('█'), "{shown}");
        assert!(lines[2].starts_with("Out  2.47k/s"), "{shown}");
        assert_eq!(
            lines[3],
            "Conns 40  Slow 1  Cert 2d  CPU 3%  Mem 32.4MiB  Bus not well  Subs 0"
        );
        assert!(lines[4].starts_with("1 Connections  2 Servers"), "{shown}");
        assert!(lines[4].ends_with("30 of 40"), "{shown}");
        assert!(lines[5].contains("OUT/s▾"), "{shown}");
        assert!(lines[6].contains("client-01"), "{shown}");
        assert!(lines[11].starts_with("q quit  ? help"), "{shown}");
    }

    #[test]
    fn every_size_and_every_screen_can_be_drawn() {
        let now = begin();
        let mut state = known(&["a", "b"], now);
        let reason = "cannot connect: Connection refused".to_owned();
        state.hear("b", now + Duration::from_secs(2), Err(reason.clone()));
        let name = "c".to_owned();
        state.unasked.insert("C".into(), Unasked { name, reason });
        for columns in [1, 2, 10, 28, 40, 79, 99, 100, 300] {
            for lines in [1, 2, 4, 5, 6, 7, 15, 30] {
                for screen in Screen::ALL {
                    for overlay in [None, Some(Overlay::Help), Some(Overlay::Row("a 3".into()))] {
                        let mut looks = looks().on(screen);
                        looks.overlay = overlay;
                        picture(&state, &looks, now, columns, lines);
                        picture(&State::new(["a".into()]), &looks, now, columns, lines);
                    }
                }
            }
        }
    }

    #[test]
    fn who_is_silent_is_told_on_top_and_the_rest_goes_on() {
        let now = begin();
        let mut state = known(&["a", "b"], now);
        let at = now + Duration::from_secs(2);
        state.hear("b", at, Err("cannot connect: Connection refused".into()));
        let shown = picture(&state, &looks(), at + Duration::from_secs(7), 80, 12);
        assert!(shown.starts_with("C · 1 of 2 servers answer"), "{shown}");
        assert!(
            shown.contains("n-b does not answer for 7s: cannot connect: Connection refused"),
            "{shown}"
        );
        assert!(shown.contains("client-01"), "{shown}");
    }

    #[test]
    fn before_the_first_answer_there_is_the_reason() {
        let now = begin();
        let mut state = State::new(["http://h:8222".into()]);
        let shown = picture(&state, &looks(), now, 40, 15);
        assert!(shown.contains("Waiting for http://h:8222 …"), "{shown}");
        let problem = "this is a port for clients or routes; monitoring has one of its own";
        state.hear("http://h:8222", now, Err(problem.into()));
        let shown = picture(&state, &looks(), now, 40, 15);
        let words: Vec<_> = shown.split_whitespace().collect();
        assert!(words.join(" ").contains(problem), "{shown}");
    }

    #[test]
    fn what_is_typed_is_shown() {
        let now = begin();
        let state = known(&["a"], now);
        let mut looks = looks();
        looks.filter = "\u{1b}x".into();
        let before = String::new();
        looks.typing = Some(Typing::Filter { before });
        let shown = picture(&state, &looks, now, 80, 12);
        assert!(shown.contains("Filter: \\u{1b}x█"), "{shown}");
        assert!(shown.contains("Nothing matches \\u{1b}x"), "{shown}");
        let text = "nonsense".into();
        looks.typing = Some(Typing::Sort {
            text,
            is_wrong: true,
        });
        let shown = picture(&state, &looks, now, 80, 12);
        assert!(
            shown.contains("Sort by: nonsense█ is none of cid name"),
            "{shown}"
        );
    }

    #[test]
    fn bars_end_with_the_newest() {
        assert_eq!(bars(&[8.0, 0.0, 4.0, 0.1], 8.0, 6, 1), ["  ▁▄ █"]);
        assert_eq!(bars(&[8.0, 4.0, 6.0], 8.0, 3, 2), ["▄ █", "███"]);
        assert_eq!(bars(&[0.0], 0.0, 2, 1), ["  "]);
        assert_eq!(bars(&[], 0.0, 2, 1), ["  "]);
    }

    #[test]
    fn the_cursor_is_in_the_middle_where_it_can_be() {
        assert_eq!(first_shown(0, 100, 10), 0);
        assert_eq!(first_shown(50, 100, 10), 45);
        assert_eq!(first_shown(99, 100, 10), 90);
        assert_eq!(first_shown(3, 4, 10), 0);
    }
}
