//! The event bus in ten lines, as the documentation shows it: settings from the standard file, variables that begin with
//! `MYAPP_`, one event.
//!
//!     cargo run -p natterjack-bus --example ten_lines

use natterjack_bus::settings::Sources;
use natterjack_bus::{EventBus, Settings};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let loaded = Settings::load(&Sources::new().default_file().environment("MYAPP"))?;
    let bus: EventBus<String> = EventBus::start(loaded.settings).await?;
    let mut events = bus.subscribe(); // a Stream
    bus.ready().await; // now it misses nothing, and neither do the others
    bus.publish(&"hello".to_owned()).await?;
    let event = events.next().await; // own events come too: `event.is_own()`
    bus.drain().await?;
    assert_eq!(event.map(|event| event.data), Some("hello".to_owned()));
    Ok(())
}
