//! A bounded queue with many producers, one consumer, and a choice of what happens when it is full.
//!
//! The bound is on items and on bytes. An item that alone exceeds the byte bound is accepted into an empty queue, so
//! that nothing is ever stuck for its size.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// What a subscriber's full queue does with the next event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// The event waits for room, and every event behind it, for all subscribers of this bus. Publishing goes on.
    #[default]
    Wait,
    /// The oldest queued event goes.
    DropOldest,
    /// The new event goes.
    DropNewest,
}

pub(crate) struct Queue<E> {
    state: Mutex<State<E>>,
    /// Wakes producers that wait for room, if the state says that there are any.
    room: Notify,
    items_max: usize,
    bytes_max: usize,
}

struct State<E> {
    items: VecDeque<(E, usize)>,
    bytes: usize,
    /// No more items will come; the consumer gets what is left.
    closed: bool,
    /// Nobody will take items any more.
    abandoned: bool,
    /// The bounds no longer hold, so that what is on its way can be handed over at the end.
    lifted: bool,
    dropped: u64,
    consumer: Option<Waker>,
    /// Producers wait for room.
    is_awaited: bool,
}

/// What became of a pushed item.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Pushed<E> {
    Queued,
    /// It was queued, and the oldest were dropped for it.
    Evicted {
        /// How many; more than one where bytes are what there is no room for.
        items: u64,
    },
    /// There is no room; here it is back.
    Full(E),
    /// The queue is closed or abandoned.
    Gone,
}

impl<E> Queue<E> {
    pub(crate) fn new(items_max: usize, bytes_max: usize) -> Self {
        Self {
            state: Mutex::new(State {
                items: VecDeque::new(),
                bytes: 0,
                closed: false,
                abandoned: false,
                lifted: false,
                dropped: 0,
                consumer: None,
                is_awaited: false,
            }),
            room: Notify::new(),
            items_max: items_max.max(1),
            bytes_max,
        }
    }

    /// Queues an item if there is room.
    pub(crate) fn try_push(&self, item: E, bytes: usize) -> Pushed<E> {
        let mut state = self.state.lock();
        if state.closed || state.abandoned {
            return Pushed::Gone;
        }
        if !self.has_room(&state, bytes) {
            return Pushed::Full(item);
        }
        state.push(item, bytes);
        Pushed::Queued
    }

    /// Queues an item, waiting for room. `false`: the queue is closed or abandoned, and the item is gone.
    pub(crate) async fn push(&self, item: E, bytes: usize) -> bool {
        let mut item = match self.try_push(item, bytes) {
            Pushed::Full(item) => item,
            other => return !matches!(other, Pushed::Gone),
        };
        loop {
            let room = self.room.notified();
            tokio::pin!(room);
            // Registered before the attempt, or a pop in between would go unnoticed.
            room.as_mut().enable();
            self.state.lock().is_awaited = true;
            match self.try_push(item, bytes) {
                Pushed::Full(back) => item = back,
                other => return !matches!(other, Pushed::Gone),
            }
            room.await;
        }
    }

    /// Queues an item without waiting; a full queue drops, and counts, what `overflow` says. Under
    /// [`Overflow::Wait`] the item comes back instead.
    pub(crate) fn push_now(&self, item: E, bytes: usize, overflow: Overflow) -> Pushed<E> {
        let item = match self.try_push(item, bytes) {
            Pushed::Full(item) => item,
            other => return other,
        };
        let mut state = self.state.lock();
        match overflow {
            Overflow::Wait => Pushed::Full(item),
            Overflow::DropNewest => {
                state.dropped += 1;
                Pushed::Full(item)
            }
            Overflow::DropOldest => {
                let mut evicted = Vec::new();
                while !self.has_room(&state, bytes) {
                    evicted.extend(state.pop());
                }
                let items = evicted.len() as u64;
                state.dropped += items;
                state.push(item, bytes);
                // What was evicted is dropped outside the lock.
                drop(state);
                Pushed::Evicted { items }
            }
        }
    }

    pub(crate) fn poll_pop(&self, context: &Context<'_>) -> Poll<Option<E>> {
        self.poll_take(context, State::pop)
    }

    /// Takes what `take` takes. `None`: there will be no more.
    fn poll_take<R>(
        &self,
        context: &Context<'_>,
        take: impl FnOnce(&mut State<E>) -> Option<R>,
    ) -> Poll<Option<R>> {
        let mut state = self.state.lock();
        if let Some(taken) = take(&mut state) {
            let is_awaited = std::mem::take(&mut state.is_awaited);
            drop(state);
            if is_awaited {
                self.room.notify_waiters();
            }
            return Poll::Ready(Some(taken));
        }
        if state.closed {
            return Poll::Ready(None);
        }
        state.consumer = Some(context.waker().clone());
        Poll::Pending
    }

    /// Takes several items, but no more than a sixty-fourth of the bound: they are beyond it now. `false`: there will be no
    /// more.
    pub(crate) async fn pop_some(&self, into: &mut Vec<E>) -> bool {
        let items_max = (self.items_max / 64).clamp(1, 64);
        let popped = std::future::poll_fn(|context| {
            self.poll_take(context, |state| {
                into.extend(std::iter::from_fn(|| state.pop()).take(items_max));
                (!into.is_empty()).then_some(())
            })
        });
        popped.await.is_some()
    }

    pub(crate) async fn pop(&self) -> Option<E> {
        std::future::poll_fn(|context| self.poll_pop(context)).await
    }

    /// No more items; waiting producers give up, the consumer gets what is left and then the end.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.wake();
        drop(state);
        self.room.notify_waiters();
    }

    /// The consumer is gone.
    pub(crate) fn abandon(&self) {
        let mut state = self.state.lock();
        state.abandoned = true;
        let items = std::mem::take(&mut state.items);
        state.bytes = 0;
        drop(state);
        drop(items);
        self.room.notify_waiters();
    }

    pub(crate) fn len(&self) -> usize {
        self.state.lock().items.len()
    }

    /// Lifts the bounds for good.
    pub(crate) fn lift(&self) {
        self.state.lock().lifted = true;
        self.room.notify_waiters();
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.state.lock().dropped
    }

    /// Whether at least half of the bound is free; the end of an overflow is reported then, not at each gap.
    pub(crate) fn is_relaxed(&self) -> bool {
        let state = self.state.lock();
        state.items.len() <= self.items_max / 2 && state.bytes <= self.bytes_max / 2
    }

    fn has_room(&self, state: &State<E>, bytes: usize) -> bool {
        let fits = state.items.len() < self.items_max
            && state.bytes.saturating_add(bytes) <= self.bytes_max;
        fits || state.lifted || state.items.is_empty()
    }
}

impl<E> State<E> {
    fn push(&mut self, item: E, bytes: usize) {
        self.items.push_back((item, bytes));
        self.bytes += bytes;
        self.wake();
    }

    fn pop(&mut self) -> Option<E> {
        let (item, bytes) = self.items.pop_front()?;
        self.bytes -= bytes;
        Some(item)
    }

    fn wake(&mut self) {
        if let Some(consumer) = self.consumer.take() {
            consumer.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;

    fn run<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(future)
    }

    #[test]
    fn bounds_are_on_items_and_bytes() {
        let queue = Queue::new(2, 10);
        assert_eq!(queue.try_push('a', 6), Pushed::Queued);
        assert_eq!(queue.try_push('b', 5), Pushed::Full('b'));
        assert_eq!(queue.try_push('b', 4), Pushed::Queued);
        assert_eq!(queue.try_push('c', 0), Pushed::Full('c'));
        run(async {
            assert_eq!(queue.pop().await, Some('a'));
            assert_eq!(queue.pop().await, Some('b'));
        });
        assert_eq!(
            queue.try_push('d', 11),
            Pushed::Queued,
            "an empty queue takes anything"
        );
    }

    #[test]
    fn full_queues_follow_their_policy() {
        let oldest = Queue::new(2, usize::MAX);
        let newest = Queue::new(2, usize::MAX);
        for number in 0..5 {
            oldest.push_now(number, 1, Overflow::DropOldest);
            newest.push_now(number, 1, Overflow::DropNewest);
        }
        assert_eq!((oldest.dropped(), newest.dropped()), (3, 3));
        run(async {
            assert_eq!((oldest.pop().await, oldest.pop().await), (Some(3), Some(4)));
            assert_eq!((newest.pop().await, newest.pop().await), (Some(0), Some(1)));
        });
    }

    #[test]
    fn a_waiting_producer_goes_on_when_there_is_room_or_nobody_left() {
        run(async {
            let queue = Arc::new(Queue::new(1, usize::MAX));
            assert!(queue.push(1, 1).await);
            let (pushed, popped) = tokio::join!(queue.push(2, 1), queue.pop());
            assert_eq!((pushed, popped), (true, Some(1)));
            let (pushed, ()) = tokio::join!(queue.push(3, 1), async { queue.abandon() });
            assert!(!pushed);
        });
    }

    #[test]
    fn closing_keeps_what_is_queued_and_refuses_more() {
        run(async {
            let queue = Queue::new(1, usize::MAX);
            assert!(queue.push(1, 1).await);
            let (pushed, ()) = tokio::join!(queue.push(2, 1), async { queue.close() });
            assert!(!pushed);
            assert_eq!((queue.pop().await, queue.pop().await), (Some(1), None));
        });
    }

    #[test]
    fn a_lifted_queue_takes_everything() {
        run(async {
            let queue = Queue::new(1, 1);
            assert!(queue.push(1, 1).await);
            let (pushed, ()) = tokio::join!(queue.push(2, 1), async { queue.lift() });
            assert!(pushed);
        });
    }

    /// The same queue, as plainly as it can be said.
    struct Model {
        items: Vec<(u32, usize)>,
        items_max: usize,
        bytes_max: usize,
        lifted: bool,
        closed: bool,
        dropped: u64,
    }

    impl Model {
        fn has_room(&self, bytes: usize) -> bool {
            let used: usize = self.items.iter().map(|item| item.1).sum();
            let fits = self.items.len() < self.items_max && used + bytes <= self.bytes_max;
            fits || self.lifted || self.items.is_empty()
        }

        fn push(&mut self, item: u32, bytes: usize, overflow: Overflow) -> Pushed<u32> {
            if self.closed {
                return Pushed::Gone;
            }
            if self.has_room(bytes) {
                self.items.push((item, bytes));
                return Pushed::Queued;
            }
            match overflow {
                Overflow::Wait => Pushed::Full(item),
                Overflow::DropNewest => {
                    self.dropped += 1;
                    Pushed::Full(item)
                }
                Overflow::DropOldest => {
                    let mut items = 0;
                    while !self.has_room(bytes) {
                        self.items.remove(0);
                        items += 1;
                    }
                    self.dropped += items;
                    self.items.push((item, bytes));
                    Pushed::Evicted { items }
                }
            }
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push(usize, Overflow),
        Pop,
        Lift,
        Close,
    }

    fn step() -> impl Strategy<Value = Step> {
        let overflow = prop_oneof![
            Just(Overflow::Wait),
            Just(Overflow::DropOldest),
            Just(Overflow::DropNewest),
        ];
        prop_oneof![
            20 => (0_usize..12, overflow).prop_map(|(bytes, overflow)| Step::Push(bytes, overflow)),
            12 => Just(Step::Pop),
            1 => Just(Step::Lift),
            1 => Just(Step::Close),
        ]
    }

    proptest! {
        #[test]
        fn it_does_what_the_model_does(
            items_max in 1_usize..6,
            bytes_max in 1_usize..30,
            steps in prop::collection::vec(step(), 0..80),
        ) {
            let queue = Queue::new(items_max, bytes_max);
            let mut model = Model { items: Vec::new(), items_max, bytes_max, lifted: false, closed: false, dropped: 0 };
            let context = Context::from_waker(Waker::noop());
            for (number, step) in steps.into_iter().enumerate() {
                let number = number as u32;
                match step {
                    Step::Push(bytes, overflow) => {
                        prop_assert_eq!(queue.push_now(number, bytes, overflow), model.push(number, bytes, overflow));
                    }
                    Step::Pop => {
                        let expected = match model.items.is_empty() {
                            false => Poll::Ready(Some(model.items.remove(0).0)),
                            true if model.closed => Poll::Ready(None),
                            true => Poll::Pending,
                        };
                        prop_assert_eq!(queue.poll_pop(&context), expected);
                    }
                    Step::Lift => {
                        queue.lift();
                        model.lifted = true;
                    }
                    Step::Close => {
                        queue.close();
                        model.closed = true;
                    }
                }
                prop_assert_eq!((queue.len(), queue.dropped()), (model.items.len(), model.dropped));
            }
        }
    }
}
