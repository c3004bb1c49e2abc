//! Where passwords are checked against hashes: on threads for what takes long, a few at a time.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use natterjack_engine::PasswordCheck;
use tokio::sync::Semaphore;

/// The checks of one server. As many run at one time as there are processors; the others wait.
pub(crate) struct PasswordChecks {
    permits: Arc<Semaphore>,
}

/// A check; dropped before its turn it is never made.
pub(crate) type Outcome = Pin<Box<dyn Future<Output = bool> + Send>>;

impl PasswordChecks {
    pub(crate) fn new() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            permits: Arc::new(Semaphore::new(processors)),
        }
    }

    /// Whether the password is right. One whose check cannot be made is not.
    pub(crate) fn run(&self, check: PasswordCheck) -> Outcome {
        let permits = Arc::clone(&self.permits);
        Box::pin(async move {
            let Ok(permit) = permits.acquire_owned().await else {
                return false;
            };
            let checked = tokio::task::spawn_blocking(move || {
                // Held by the thread: whoever waits for the outcome may go away, the work goes on.
                let _permit = permit;
                check.run()
            });
            checked.await.unwrap_or(false)
        })
    }
}
