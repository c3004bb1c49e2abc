//! What a person has chosen to see, and what keys change of it. No key is read here, and nothing is drawn.

use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::screens::Screen;
use super::state::State;
use super::table::{self, Figures, Order, Row};

/// Characters of a filter or of a column's name.
const TYPED_MAX: usize = 64;

/// Between questions to the servers, the shortest and the longest time.
pub(super) const INTERVAL_MIN: Duration = Duration::from_millis(100);
pub(super) const INTERVAL_MAX: Duration = Duration::from_secs(3600);

/// What `+` and `-` step through.
const INTERVALS: [Duration; 8] = [
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(60),
];

#[derive(Clone, Debug)]
pub(super) struct Looks {
    pub(super) screen: Screen,
    /// One for each screen.
    orders: [Order; Screen::ALL.len()],
    cursors: [usize; Screen::ALL.len()],
    pub(super) figures: Figures,
    pub(super) filter: String,
    pub(super) typing: Option<Typing>,
    pub(super) overlay: Option<Overlay>,
    pub(super) is_paused: bool,
    pub(super) interval: Duration,
    /// The server whose details are shown, by its place.
    pub(super) server: usize,
}

/// What is being typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Typing {
    /// The filter; this is what it was before.
    Filter { before: String },
    /// The name of a column to sort by.
    Sort { text: String, is_wrong: bool },
}

/// What lies over the screen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Overlay {
    Help,
    /// All of one row, by its id.
    Row(String),
}

/// What is on the screen, for keys that go by it.
#[derive(Clone, Debug, Default)]
pub(super) struct Extent {
    /// Ids of the rows there are, in their order.
    pub(super) rows: Vec<String>,
    /// Of them as many are to be seen at once.
    pub(super) page: usize,
    /// Columns that are shown.
    pub(super) columns: Vec<usize>,
    pub(super) servers: usize,
}

/// What is to be done besides drawing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Nothing,
    Quit,
    /// Give the terminal back until the process is continued.
    Suspend,
    /// Ask the servers now: something else is wanted of them, or they have not been asked for a while.
    Ask,
}

impl Looks {
    pub(super) fn new(screen: Screen, interval: Duration) -> Self {
        let mut looks = Self {
            screen,
            orders: Default::default(),
            cursors: Default::default(),
            figures: Figures::default(),
            filter: String::new(),
            typing: None,
            overlay: None,
            is_paused: false,
            interval,
            server: 0,
        };
        // What is most likely wanted: whoever gets most, and those that are behind.
        looks.sort_by(Screen::Connections, "out_msgs");
        looks.sort_by(Screen::Accounts, "out_msgs");
        looks
    }

    /// Whether there is such a column.
    pub(super) fn sort_by(&mut self, screen: Screen, name: &str) -> bool {
        let Some(column) = table::find(screen.columns(), name) else {
            return false;
        };
        self.orders[screen as usize] = Order {
            column,
            is_reversed: false,
        };
        true
    }

    /// The same on another screen.
    pub(super) fn on(&self, screen: Screen) -> Self {
        Self {
            screen,
            ..self.clone()
        }
    }

    pub(super) fn order(&self) -> Order {
        self.orders[self.screen as usize]
    }

    pub(super) fn reverse(&mut self) {
        let order = &mut self.orders[self.screen as usize];
        order.is_reversed = !order.is_reversed;
    }

    pub(super) fn cursor(&self) -> usize {
        self.cursors[self.screen as usize]
    }

    /// What the servers should sort connections by, so that those listed are those wanted, if not all are.
    pub(super) fn server_sort(&self) -> &'static str {
        let order = self.orders[Screen::Connections as usize];
        Screen::Connections.columns()[order.column]
            .server_sort
            .unwrap_or("cid")
    }

    /// The rows to be shown, in their order.
    pub(super) fn rows(&self, state: &State, now: std::time::Instant) -> Vec<Row> {
        let mut rows = self.screen.rows(state, now);
        table::filter(&mut rows, &self.filter);
        table::sort(&mut rows, self.screen.columns(), self.order());
        rows
    }

    pub(super) fn press(&mut self, key: KeyEvent, extent: &Extent) -> Effect {
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c') if is_control => return Effect::Quit,
            KeyCode::Char('z') if is_control => return Effect::Suspend,
            _ if is_control || key.modifiers.contains(KeyModifiers::ALT) => return Effect::Nothing,
            _ => {}
        }
        if self.typing.is_some() {
            return self.type_in(key.code);
        }
        if let Some(overlay) = &self.overlay {
            let is_for_help = matches!(key.code, KeyCode::Char('?' | 'h'));
            match key.code {
                KeyCode::Char('q') if *overlay != Overlay::Help => return Effect::Quit,
                KeyCode::Esc | KeyCode::Enter | KeyCode::Char('q') => self.overlay = None,
                _ if is_for_help => self.overlay = None,
                _ => {}
            }
            return Effect::Nothing;
        }
        self.command(key.code, extent)
    }

    fn command(&mut self, code: KeyCode, extent: &Extent) -> Effect {
        let last = extent.rows.len().saturating_sub(1);
        let cursor = self.cursor().min(last);
        let page = extent.page.max(1);
        match code {
            KeyCode::Char('q') => return Effect::Quit,
            KeyCode::Char('?' | 'h') => self.overlay = Some(Overlay::Help),
            KeyCode::Char(digit @ '1'..='9') => {
                let at = digit as usize - '1' as usize;
                if let Some(screen) = Screen::ALL.get(at) {
                    self.screen = *screen;
                }
            }
            KeyCode::Tab | KeyCode::Right => self.turn(1),
            KeyCode::BackTab | KeyCode::Left => self.turn(Screen::ALL.len() - 1),
            KeyCode::Up | KeyCode::Char('k') => self.move_to(cursor.saturating_sub(1)),
            KeyCode::Down | KeyCode::Char('j') => self.move_to((cursor + 1).min(last)),
            KeyCode::PageUp => self.move_to(cursor.saturating_sub(page)),
            KeyCode::PageDown => self.move_to((cursor + page).min(last)),
            KeyCode::Home | KeyCode::Char('g') => self.move_to(0),
            KeyCode::End | KeyCode::Char('G') => self.move_to(last),
            KeyCode::Enter => {
                let is_row = self.screen != Screen::Details;
                let id = extent.rows.get(cursor).filter(|_| is_row);
                self.overlay = id.cloned().map(Overlay::Row);
            }
            KeyCode::Char('/') => {
                self.typing = Some(Typing::Filter {
                    before: self.filter.clone(),
                });
            }
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Char('o' | 's') if self.screen != Screen::Details => {
                self.typing = Some(Typing::Sort {
                    text: String::new(),
                    is_wrong: false,
                });
            }
            KeyCode::Char('<') => return self.sort_beside(&extent.columns, false),
            KeyCode::Char('>') => return self.sort_beside(&extent.columns, true),
            KeyCode::Char('r') => self.reverse(),
            KeyCode::Char('t') => {
                self.figures = match self.figures {
                    Figures::Totals => Figures::Rates,
                    Figures::Rates | Figures::Both => Figures::Totals,
                };
                self.sort_as_shown();
                return Effect::Ask;
            }
            KeyCode::Char('p' | ' ') => {
                self.is_paused = !self.is_paused;
                if !self.is_paused {
                    return Effect::Ask;
                }
            }
            KeyCode::Char('+') => self.step_interval(true),
            KeyCode::Char('-') => self.step_interval(false),
            KeyCode::Char('[') => self.show_server(self.server.saturating_sub(1), extent.servers),
            KeyCode::Char(']') => self.show_server(self.server + 1, extent.servers),
            _ => {}
        }
        Effect::Nothing
    }

    fn type_in(&mut self, code: KeyCode) -> Effect {
        let Some(typing) = &mut self.typing else {
            return Effect::Nothing;
        };
        let text = match typing {
            Typing::Filter { .. } => &mut self.filter,
            Typing::Sort { text, is_wrong } => {
                *is_wrong = false;
                text
            }
        };
        match code {
            KeyCode::Char(letter) if text.chars().count() < TYPED_MAX => text.push(letter),
            KeyCode::Backspace => {
                text.pop();
            }
            KeyCode::Esc => {
                if let Typing::Filter { before } = typing {
                    self.filter = std::mem::take(before);
                }
                self.typing = None;
            }
            KeyCode::Enter => return self.typed(),
            _ => {}
        }
        Effect::Nothing
    }

    fn typed(&mut self) -> Effect {
        match self.typing.take() {
            Some(Typing::Sort { text, .. }) if !text.trim().is_empty() => {
                if self.sort_by(self.screen, &text) {
                    self.show_sorted();
                    return Effect::Ask;
                }
                self.typing = Some(Typing::Sort {
                    text,
                    is_wrong: true,
                });
                Effect::Nothing
            }
            Some(Typing::Filter { .. } | Typing::Sort { .. }) | None => Effect::Nothing,
        }
    }

    fn turn(&mut self, by: usize) {
        self.screen = Screen::ALL[(self.screen as usize + by) % Screen::ALL.len()];
    }

    fn move_to(&mut self, row: usize) {
        self.cursors[self.screen as usize] = row;
    }

    fn sort_beside(&mut self, columns: &[usize], is_right: bool) -> Effect {
        let order = self.order();
        let at = columns.iter().position(|column| *column == order.column);
        let next = match (at, is_right) {
            (Some(at), true) => columns.get(at + 1),
            (Some(at), false) => at.checked_sub(1).and_then(|at| columns.get(at)),
            (None, _) => columns.first(),
        };
        let Some(column) = next else {
            return Effect::Nothing;
        };
        self.orders[self.screen as usize] = Order {
            column: *column,
            is_reversed: false,
        };
        Effect::Ask
    }

    /// If what is sorted by is not among the figures that are shown, these become what is.
    fn show_sorted(&mut self) {
        match self.screen.columns()[self.order().column].kind {
            table::ColumnKind::Rate => self.figures = Figures::Rates,
            table::ColumnKind::Total => self.figures = Figures::Totals,
            _ => {}
        }
    }

    /// The order by a rate becomes that by its total, and back, on all screens.
    fn sort_as_shown(&mut self) {
        for screen in Screen::ALL {
            let columns = screen.columns();
            let order = &mut self.orders[screen as usize];
            let key = columns.get(order.column).map_or("", |column| column.key);
            let wanted = match self.figures {
                Figures::Totals => format!("total_{key}"),
                Figures::Rates | Figures::Both => {
                    key.strip_prefix("total_").unwrap_or(key).to_owned()
                }
            };
            if let Some(column) = columns.iter().position(|column| column.key == wanted) {
                order.column = column;
            }
        }
    }

    fn step_interval(&mut self, is_longer: bool) {
        let next = if is_longer {
            INTERVALS.iter().find(|step| **step > self.interval)
        } else {
            INTERVALS.iter().rev().find(|step| **step < self.interval)
        };
        self.interval = next.copied().unwrap_or(self.interval);
    }

    fn show_server(&mut self, server: usize, servers: usize) {
        self.server = server.min(servers.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks() -> Looks {
        Looks::new(Screen::Connections, Duration::from_secs(1))
    }

    fn extent() -> Extent {
        Extent {
            rows: (0..100).map(|row| row.to_string()).collect(),
            page: 10,
            columns: vec![0, 1, 7, 8],
            servers: 2,
        }
    }

    /// Presses what is written, where `<Name>` is a key of its own.
    #[track_caller]
    fn press(looks: &mut Looks, keys: &str) -> Effect {
        let mut effect = Effect::Nothing;
        let mut rest = keys;
        while !rest.is_empty() {
            let named = rest
                .strip_prefix('<')
                .and_then(|rest| rest.split_once('>'))
                .filter(|(name, _)| !name.is_empty());
            let (code, next) = match named {
                Some((name, next)) => (named_key(name), next),
                None => {
                    let letter = rest.chars().next().unwrap();
                    (KeyCode::Char(letter), &rest[letter.len_utf8()..])
                }
            };
            effect = looks.press(KeyEvent::from(code), &extent());
            rest = next;
        }
        effect
    }

    fn named_key(name: &str) -> KeyCode {
        match name {
            "Tab" => KeyCode::Tab,
            "BackTab" => KeyCode::BackTab,
            "Enter" => KeyCode::Enter,
            "Esc" => KeyCode::Esc,
            "Backspace" => KeyCode::Backspace,
            "Up" => KeyCode::Up,
            "Down" => KeyCode::Down,
            "PageDown" => KeyCode::PageDown,
            "End" => KeyCode::End,
            _ => panic!("no key {name}"),
        }
    }

    fn sorted_by(looks: &Looks) -> &'static str {
        looks.screen.columns()[looks.order().column].key
    }

    #[test]
    fn screens() {
        let mut looks = looks();
        press(&mut looks, "3");
        assert_eq!(looks.screen, Screen::Routes);
        press(&mut looks, "<Tab><Tab>");
        assert_eq!(looks.screen, Screen::Slow);
        press(&mut looks, "<Tab><Tab>");
        assert_eq!(looks.screen, Screen::Connections);
        press(&mut looks, "<BackTab>9");
        assert_eq!(looks.screen, Screen::Details);
    }

    #[test]
    fn the_cursor_stays_among_the_rows() {
        let mut looks = looks();
        press(&mut looks, "<Up>");
        assert_eq!(looks.cursor(), 0);
        press(&mut looks, "jj<PageDown>");
        assert_eq!(looks.cursor(), 12);
        press(&mut looks, "<End><Down>");
        assert_eq!(looks.cursor(), 99);
        press(&mut looks, "2");
        assert_eq!(looks.cursor(), 0, "each screen has one of its own");
    }

    #[test]
    fn sorting() {
        let mut looks = looks();
        assert_eq!(
            (sorted_by(&looks), looks.server_sort()),
            ("out_msgs", "msgs_to")
        );
        assert_eq!(press(&mut looks, "opend<Enter>"), Effect::Ask);
        assert_eq!(
            (sorted_by(&looks), looks.server_sort()),
            ("pending", "pending")
        );
        assert!(!looks.order().is_reversed);
        press(&mut looks, "r");
        assert!(looks.order().is_reversed);
        assert_eq!(press(&mut looks, "ononsense<Enter>"), Effect::Nothing);
        let wrong = Typing::Sort {
            text: "nonsense".into(),
            is_wrong: true,
        };
        assert_eq!(looks.typing, Some(wrong));
        press(&mut looks, "<Esc>oname<Enter>");
        assert_eq!((sorted_by(&looks), looks.server_sort()), ("name", "cid"));
        press(&mut looks, ">");
        assert_eq!(sorted_by(&looks), "in_msgs");
        press(&mut looks, ">>>");
        assert_eq!(sorted_by(&looks), "out_msgs", "there is none beyond");
    }

    #[test]
    fn nats_tops_words_are_known() {
        let mut looks = looks();
        for word in [
            "cid",
            "start",
            "subs",
            "pending",
            "msgs_to",
            "msgs_from",
            "bytes_to",
            "bytes_from",
            "last",
            "idle",
            "uptime",
            "rtt",
        ] {
            assert!(looks.sort_by(Screen::Connections, word), "{word}");
        }
    }

    #[test]
    fn totals_are_sorted_like_the_rates_were() {
        let mut looks = looks();
        assert_eq!(press(&mut looks, "t"), Effect::Ask);
        assert_eq!(sorted_by(&looks), "total_out_msgs");
        press(&mut looks, "t");
        assert_eq!(sorted_by(&looks), "out_msgs");
        press(&mut looks, "omsgs_from<Enter>");
        assert_eq!(
            looks.figures,
            Figures::Totals,
            "it would not be seen otherwise"
        );
    }

    #[test]
    fn filters_are_typed_and_taken_back() {
        let mut looks = looks();
        press(&mut looks, "/qr1<Backspace>");
        assert_eq!(
            (looks.filter.as_str(), looks.screen),
            ("qr", Screen::Connections)
        );
        press(&mut looks, "<Enter>");
        assert!(looks.typing.is_none());
        press(&mut looks, "/xyz<Esc>");
        assert_eq!(looks.filter, "qr");
        press(&mut looks, "<Esc>");
        assert_eq!(looks.filter, "");
        press(&mut looks, &format!("/{}", "x".repeat(TYPED_MAX + 5)));
        assert_eq!(looks.filter.len(), TYPED_MAX);
    }

    #[test]
    fn help_and_rows_lie_over_it_and_go_away() {
        let mut looks = looks();
        press(&mut looks, "?");
        assert_eq!(looks.overlay, Some(Overlay::Help));
        assert_eq!(press(&mut looks, "q"), Effect::Nothing);
        assert!(looks.overlay.is_none());
        press(&mut looks, "j<Enter>");
        assert_eq!(looks.overlay, Some(Overlay::Row("1".into())));
        press(&mut looks, "<Esc>");
        assert!(looks.overlay.is_none());
    }

    #[test]
    fn pausing_and_leaving() {
        let mut looks = looks();
        assert_eq!(press(&mut looks, "p"), Effect::Nothing);
        assert!(looks.is_paused);
        assert_eq!(press(&mut looks, " "), Effect::Ask);
        assert!(!looks.is_paused);
        press(&mut looks, "+");
        assert_eq!(looks.interval, Duration::from_secs(2));
        press(&mut looks, "-----------");
        assert_eq!(looks.interval, INTERVAL_MIN);
        press(&mut looks, "]]]");
        assert_eq!(looks.server, 1);
        assert_eq!(press(&mut looks, "q"), Effect::Quit);
        let control = |letter| KeyEvent::new(KeyCode::Char(letter), KeyModifiers::CONTROL);
        press(&mut looks, "/");
        assert_eq!(looks.press(control('c'), &extent()), Effect::Quit);
        assert_eq!(looks.press(control('z'), &extent()), Effect::Suspend);
    }
}
