//! What servers tell each other of the system account, taken out of what comes from a route: it comes by the clock, differs between
//! servers, and is not what conversations are about.

/// Holds back what is not whole, and drops operations of the system account.
#[derive(Debug, Default)]
pub(crate) struct Strainer {
    held: Vec<u8>,
}

/// Operations that name an account, or a subject of the system account where the connection is that account's own.
const WITH_ACCOUNT: [&str; 6] = ["RS+", "RS-", "RMSG", "HMSG", "LS+", "LS-"];

impl Strainer {
    /// Takes what has come, and appends to `out` what is whole and wanted.
    pub(crate) fn strain(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        self.held.extend_from_slice(bytes);
        let mut taken = 0;
        while let Some(unit) = unit(&self.held[taken..]) {
            let whole = &self.held[taken..taken + unit.bytes];
            if !unit.is_systems {
                out.extend_from_slice(whole);
            }
            taken += unit.bytes;
        }
        self.held.drain(..taken);
    }

    /// Appends what is left when nothing more comes.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.held);
    }
}

struct Unit {
    /// With the body and its line end.
    bytes: usize,
    is_systems: bool,
}

/// The operation that `bytes` begin with, if all of it is there.
fn unit(bytes: &[u8]) -> Option<Unit> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    let line = String::from_utf8_lossy(&bytes[..end]);
    let mut words = line.split(' ');
    let verb = words.next().unwrap_or_default();
    let account = words.next().unwrap_or_default();
    let is_systems =
        WITH_ACCOUNT.contains(&verb) && (account == "$SYS" || account.starts_with("$SYS."));
    let body = match verb {
        "RMSG" | "HMSG" | "LMSG" => line
            .rsplit(' ')
            .next()
            .and_then(|size| size.parse::<usize>().ok())
            .map_or(0, |size| size + 2),
        _ => 0,
    };
    let whole = end + 2 + body;
    (bytes.len() >= whole).then_some(Unit {
        bytes: whole,
        is_systems,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_account_is_taken_out_however_it_comes() {
        let input = b"INFO {}\r\nRS+ $SYS $SYS.REQ.>\r\nRS+ $G $SYSTEM\r\nRMSG $SYS $SYS.X 10\r\nRS+ $G x\r\n\r\n\
            RMSG $SYS.X 2\r\nab\r\nRMSG $G y 2\r\nab\r\nRS- $SYS x\r\nRS+ $G";
        let wanted = b"INFO {}\r\nRS+ $G $SYSTEM\r\nRMSG $G y 2\r\nab\r\nRS+ $G";
        for piece in 1..input.len() {
            let (mut strainer, mut out) = (Strainer::default(), Vec::new());
            for bytes in input.chunks(piece) {
                strainer.strain(bytes, &mut out);
            }
            strainer.finish(&mut out);
            assert_eq!(
                String::from_utf8_lossy(&out),
                String::from_utf8_lossy(wanted)
            );
        }
    }
}
