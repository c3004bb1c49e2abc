//! Everything a run of the benchmark has to say, as data: what was measured and what follows from it.

use serde::Serialize;

use crate::cells::{Cell, Measure};
use crate::generator::Sample;
use crate::machine::Machine;
use crate::servers::Program;
use crate::statistics::{Summary, geometric_mean, summarise};

/// The record of one run.
#[derive(Debug, Serialize)]
pub(crate) struct Record {
    /// When it was made, UTC.
    pub(crate) date: String,
    /// The command that made it.
    pub(crate) command: String,
    /// `full`, `quick` or `smoke`.
    pub(crate) mode: &'static str,
    /// How often each cell ran on each server.
    pub(crate) rounds: u32,
    /// What it was made on.
    pub(crate) machine: Machine,
    /// What `--version` says, or empty.
    pub(crate) nats_server_version: String,
    /// What `--version` says, or empty.
    pub(crate) natterjackd_version: String,
    /// The compiler.
    pub(crate) rustc_version: String,
    /// The commit of the working copy.
    pub(crate) commit: String,
    /// Geometric mean of the advantages of the throughput cells.
    pub(crate) geometric_mean: Option<f64>,
    /// The cells that ran.
    pub(crate) cells: Vec<CellRecord>,
}

impl Record {
    /// Works out what follows from all cells together.
    pub(crate) fn conclude(&mut self) {
        let advantages: Vec<f64> = self
            .cells_by(Measure::Throughput)
            .filter_map(|cell| cell.advantage)
            .map(|advantage| advantage.median)
            .collect();
        self.geometric_mean = geometric_mean(&advantages);
    }

    /// Share of the machine's processors that neither the servers nor the generator used, but somebody
    /// did, while figures were taken; 0 to 1.
    pub(crate) fn other_share(&self) -> f64 {
        let rounds = || {
            self.cells
                .iter()
                .flat_map(|cell| &cell.programs)
                .flat_map(|it| &it.rounds)
        };
        let other: f64 = rounds().map(|round| round.other_processor_seconds).sum();
        let wall: f64 = rounds().map(|round| round.wall_seconds).sum();
        other / (wall * self.machine.processors as f64).max(f64::MIN_POSITIVE)
    }

    /// The cells compared by one measure.
    pub(crate) fn cells_by(&self, measure: Measure) -> impl Iterator<Item = &CellRecord> {
        self.cells
            .iter()
            .filter(move |cell| cell.cell.measure() == measure)
    }

    /// The record of the cell of that name, if it ran.
    pub(crate) fn cell(&self, name: &str) -> Option<&CellRecord> {
        self.cells.iter().find(|cell| cell.cell.name == name)
    }
}

/// The record of one cell.
#[derive(Debug, Serialize)]
pub(crate) struct CellRecord {
    /// The cell.
    #[serde(rename = "name", serialize_with = "cell_name")]
    pub(crate) cell: &'static Cell,
    /// How much was done in each run: messages, requests or connections.
    pub(crate) work: u64,
    /// How many times better natterjackd is than nats-server: per second of processor time for
    /// throughput and connections, the other way round for latency and memory. Larger is better.
    pub(crate) advantage: Option<Summary>,
    /// What each program did.
    pub(crate) programs: Vec<ProgramRecord>,
    /// Runs that failed, and why.
    pub(crate) failures: Vec<Failure>,
}

/// A run that failed.
#[derive(Debug, Serialize)]
pub(crate) struct Failure {
    /// The program under load.
    pub(crate) program: Program,
    /// Which run it was and what went wrong.
    pub(crate) text: String,
}

impl CellRecord {
    /// A cell that has not run yet.
    pub(crate) fn new(cell: &'static Cell, work: u64) -> Self {
        Self {
            cell,
            work,
            advantage: None,
            programs: Vec::new(),
            failures: Vec::new(),
        }
    }

    /// Adds one round of one program.
    pub(crate) fn add(&mut self, program: Program, sample: Sample) {
        match self
            .programs
            .iter_mut()
            .find(|record| record.program == program)
        {
            Some(record) => record.rounds.push(sample),
            None => self.programs.push(ProgramRecord {
                program,
                figure: None,
                rounds: vec![sample],
            }),
        }
    }

    /// Works out the figures from the rounds.
    pub(crate) fn conclude(&mut self) {
        let measure = self.cell.measure();
        for record in &mut self.programs {
            record.figure = summarise(
                record
                    .rounds
                    .iter()
                    .filter_map(|round| figure(measure, round)),
            );
        }
        self.advantage = self.compare();
    }

    /// The program's record, if it ran.
    pub(crate) fn program(&self, program: Program) -> Option<&ProgramRecord> {
        self.programs
            .iter()
            .find(|record| record.program == program)
    }

    /// How many times less a natterjackd at that place of a cluster with nats-server spends than a nats-server does at
    /// the same place of a cluster of its own.
    pub(crate) fn advantage_among_theirs(&self, node: usize) -> Option<f64> {
        let mix = [Program::OursFirst, Program::TheirsFirst]
            .into_iter()
            .find(|mix| mix.at(node) == Program::Natterjackd)?;
        let theirs = self.program(Program::NatsServer)?.node_cost(node)?;
        let ours = self.program(mix)?.node_cost(node)?;
        Some(theirs.median / ours.median)
    }

    /// The median is the ratio of the medians; the extremes are those of single rounds, each of which
    /// ran both servers one right after the other.
    fn compare(&self) -> Option<Summary> {
        let measure = self.cell.measure();
        let theirs = self.program(Program::NatsServer)?;
        let ours = self.program(Program::Natterjackd)?;
        let is_larger_better = !matches!(
            measure,
            Measure::Latency | Measure::OneWay | Measure::Memory | Measure::Joining
        );
        let ratio = |theirs: f64, ours: f64| {
            if is_larger_better {
                ours / theirs
            } else {
                theirs / ours
            }
        };
        let rounds = theirs
            .rounds
            .iter()
            .zip(&ours.rounds)
            .filter_map(|(theirs, ours)| {
                Some(ratio(figure(measure, theirs)?, figure(measure, ours)?))
            });
        let rounds = summarise(rounds)?;
        Some(Summary {
            median: ratio(theirs.figure?.median, ours.figure?.median),
            ..rounds
        })
    }
}

/// The rounds of one program in one cell.
#[derive(Debug, Serialize)]
pub(crate) struct ProgramRecord {
    /// The program.
    pub(crate) program: Program,
    /// What the cell is compared by: operations per second of processor time, p50 in microseconds, or
    /// bytes.
    pub(crate) figure: Option<Summary>,
    /// Each round.
    pub(crate) rounds: Vec<Sample>,
}

impl ProgramRecord {
    /// Operations per second on the wall clock.
    pub(crate) fn wall_rate(&self) -> Option<Summary> {
        summarise(
            self.rounds
                .iter()
                .map(|round| round.operations as f64 / round.wall_seconds),
        )
    }

    /// Operations per second of processor time of all servers.
    pub(crate) fn rate(&self) -> Option<Summary> {
        self.over_rounds(operations_per_processor_second)
    }

    /// Nanoseconds of processor time that one server of a cluster spends on an operation.
    pub(crate) fn node_cost(&self, node: usize) -> Option<Summary> {
        self.over_rounds(|round| {
            let seconds = round.node_processor_seconds.get(node)?;
            Some(seconds * 1e9 / round.operations as f64)
        })
    }

    /// One figure of the rounds that have it.
    pub(crate) fn over_rounds(&self, figure: impl Fn(&Sample) -> Option<f64>) -> Option<Summary> {
        summarise(self.rounds.iter().filter_map(figure))
    }
}

fn operations_per_processor_second(sample: &Sample) -> Option<f64> {
    Some(sample.operations as f64 / sample.server_processor_seconds)
}

/// What a cell is compared by, in one round.
fn figure(measure: Measure, sample: &Sample) -> Option<f64> {
    match measure {
        Measure::Throughput
        | Measure::EncryptedThroughput
        | Measure::ClusterThroughput
        | Measure::ConnectRate
        | Measure::Floor => operations_per_processor_second(sample),
        Measure::Latency => sample.latency.map(|latency| latency.p50_microseconds),
        Measure::OneWay => sample.latency.map(|latency| latency.p99_microseconds),
        Measure::Memory => sample.memory_bytes,
        Measure::Beside => sample.beside.map(|beside| beside.throughput_share),
        Measure::Watched => sample.watched.map(|watched| watched.throughput_share),
        Measure::Joining => sample.joining.map(|joining| joining.seconds),
    }
}

fn cell_name<S: serde::Serializer>(cell: &&'static Cell, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(cell.name)
}

#[cfg(test)]
mod tests {
    use super::CellRecord;
    use crate::cells::Cell;
    use crate::generator::Sample;
    use crate::servers::Program;

    fn sample(operations: u64, memory_bytes: f64) -> Sample {
        Sample {
            operations,
            wall_seconds: 1.0,
            server_processor_seconds: 0.5,
            memory_bytes: Some(memory_bytes),
            ..Sample::default()
        }
    }

    fn advantage(name: &str, theirs: &[Sample], ours: &[Sample]) -> (f64, f64, f64) {
        let mut record = CellRecord::new(Cell::named(name).unwrap(), 1);
        for sample in theirs {
            record.add(Program::NatsServer, sample.clone());
        }
        for sample in ours {
            record.add(Program::Natterjackd, sample.clone());
        }
        record.conclude();
        let advantage = record.advantage.unwrap();
        (advantage.median, advantage.min, advantage.max)
    }

    #[test]
    fn more_throughput_and_less_memory_are_better() {
        let (theirs, ours) = ([sample(100, 1000.0)], [sample(400, 500.0)]);
        assert_eq!(advantage("1-1-16B", &theirs, &ours), (4.0, 4.0, 4.0));
        assert_eq!(advantage("idle-server", &theirs, &ours), (2.0, 2.0, 2.0));
    }

    #[test]
    fn a_server_among_others_is_compared_with_the_one_in_its_place() {
        let with = |nodes: [f64; 2]| Sample {
            node_processor_seconds: nodes.to_vec(),
            ..sample(100, 0.0)
        };
        let mut record = CellRecord::new(Cell::named("cluster-1-1-16B").unwrap(), 1);
        record.add(Program::NatsServer, with([3.0, 8.0]));
        record.add(Program::OursFirst, with([1.0, 9.0]));
        record.add(Program::TheirsFirst, with([4.0, 2.0]));
        assert_eq!(record.advantage_among_theirs(0), Some(3.0));
        assert_eq!(record.advantage_among_theirs(1), Some(4.0));
        assert_eq!(record.advantage_among_theirs(2), None);
    }

    #[test]
    fn extremes_are_those_of_single_rounds() {
        let theirs = [sample(100, 1.0), sample(200, 1.0), sample(150, 1.0)];
        let ours = [sample(300, 1.0), sample(400, 1.0), sample(600, 1.0)];
        let (median, min, max) = advantage("1-1-16B", &theirs, &ours);
        assert!((median - 400.0 / 150.0).abs() < 1e-9);
        assert_eq!((min, max), (2.0, 4.0));
    }
}
