//! What there is to try for a model on this machine.

use std::num::NonZeroUsize;

use infer_core::{Device, Encoding, Error, ErrorKind, Precision, Result, run_engine};

use super::Setting;
use crate::backends::Backends;
use crate::config::DeviceChoice;

/// What a person wants tried; the default is every backend and device, every number of threads, in f32.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    /// One backend's name; all where absent.
    pub backend: Option<String>,
    /// One device, or all.
    pub device: DeviceChoice,
    /// Threads of one run on the processor; 1, 2, 4 and so on up to what the machine runs at once where absent.
    pub threads: Option<Vec<NonZeroUsize>>,
    /// The precisions.
    pub precisions: Precisions,
}

/// The precisions to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Precisions {
    /// These.
    Named(Vec<Precision>),
    /// All that a backend has.
    All,
}

impl Default for Precisions {
    fn default() -> Precisions {
        Precisions::Named(vec![Precision::F32])
    }
}

/// A setting to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The setting.
    pub setting: Setting,
    /// Whether somebody has to hear of it if the engine cannot do it: it was asked for by name, or is the first of its
    /// backend and device.
    pub required: bool,
}

impl Backends {
    /// The settings to try for a model of this encoding, in the order in which backends are preferred; of each backend
    /// and device the precisions in the order given.
    ///
    /// # Errors
    /// `InvalidArgument` for an unknown backend, `InvalidEncoding` if none reads the encoding, `NotFound` if none of
    /// those has the device or can be used, with what each said.
    pub fn candidates(&self, wishes: &Wishes, encoding: Encoding) -> Result<Vec<Candidate>> {
        let named = wishes.backend.as_deref();
        let readers = self.readers(named, encoding)?;
        self.device(named, wishes.device)?;
        let mut candidates: Vec<Candidate> = Vec::new();
        for backend in readers {
            let probe = match run_engine(backend.name(), || backend.probe()) {
                Ok(probe) => probe,
                Err(error) => {
                    tracing::info!("{} is not tried: {}", backend.name(), error.report());
                    continue;
                }
            };
            let devices = probe.devices.iter().map(|info| info.device);
            for device in devices.filter(|device| is_wanted(wishes.device, *device)) {
                for candidate in of_device(wishes, backend.name(), device) {
                    // What was asked for twice is tried once.
                    if !candidates
                        .iter()
                        .any(|other| other.setting == candidate.setting)
                    {
                        candidates.push(candidate);
                    }
                }
            }
        }
        if candidates.is_empty() {
            let message =
                format!("no backend that reads models of encoding `{encoding}` has the device");
            return Err(Error::new(ErrorKind::NotFound, message)
                .with_hint("`infer devices` shows what each backend reads and has"));
        }
        Ok(candidates)
    }
}

fn is_wanted(choice: DeviceChoice, device: Device) -> bool {
    match choice {
        DeviceChoice::Auto => true,
        DeviceChoice::Exactly(wanted) => wanted == device,
    }
}

fn of_device(wishes: &Wishes, backend: &str, device: Device) -> Vec<Candidate> {
    let precisions = match &wishes.precisions {
        Precisions::Named(precisions) => precisions.clone(),
        Precisions::All => vec![
            Precision::F32,
            Precision::F16,
            Precision::BF16,
            Precision::Auto,
        ],
    };
    let threads: Vec<Option<NonZeroUsize>> = match (device, &wishes.threads) {
        // Other devices have none that could be set.
        (Device::Gpu(_) | Device::Npu, _) => vec![None],
        (Device::Cpu, Some(threads)) => threads.iter().copied().map(Some).collect(),
        (Device::Cpu, None) => thread_counts(parallelism()).map(Some).collect(),
    };
    let by_name = wishes.precisions != Precisions::All;
    let pairs = precisions
        .iter()
        .flat_map(|precision| threads.iter().map(move |threads| (*precision, *threads)));
    pairs
        .enumerate()
        .map(|(index, (precision, threads))| {
            // One thread every engine has, and f32 as well.
            let threads_asked = wishes.threads.is_some() || threads.is_none_or(|n| n.get() == 1);
            let precision_asked = by_name || precision == Precision::F32;
            Candidate {
                required: index == 0 || threads_asked && precision_asked,
                setting: Setting {
                    backend: backend.to_owned(),
                    device,
                    threads,
                    precision,
                },
            }
        })
        .collect()
}

fn parallelism() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// 1, 2, 4 and so on, and at last `most`.
fn thread_counts(most: NonZeroUsize) -> impl Iterator<Item = NonZeroUsize> {
    let powers = std::iter::successors(Some(NonZeroUsize::MIN), |count| {
        count.checked_mul(NonZeroUsize::MIN.saturating_add(1))
    });
    powers
        .take_while(move |count| *count < most)
        .chain(std::iter::once(most))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use infer_core::testing::FakeBackend;

    use super::*;

    fn shown(candidates: &[Candidate]) -> Vec<String> {
        candidates
            .iter()
            .map(|candidate| {
                let mark = if candidate.required { "" } else { "?" };
                format!("{}{mark}", candidate.setting)
            })
            .collect()
    }

    fn counts(counts: &[usize]) -> Vec<NonZeroUsize> {
        counts
            .iter()
            .copied()
            .filter_map(NonZeroUsize::new)
            .collect()
    }

    #[test]
    fn threads_double_up_to_the_machine() {
        for (most, expected) in [
            (1, &[1][..]),
            (2, &[1, 2]),
            (6, &[1, 2, 4, 6]),
            (8, &[1, 2, 4, 8]),
        ] {
            let most = NonZeroUsize::new(most).expect("not 0");
            assert_eq!(thread_counts(most).collect::<Vec<_>>(), counts(expected));
        }
    }

    #[test]
    fn what_was_asked_for_is_required() {
        let fake = FakeBackend::new().with_devices(&[Device::Cpu, Device::Gpu(1)]);
        let backends = Backends::new(vec![Arc::new(fake)]);
        let named = Wishes {
            threads: Some(counts(&[1, 3, 1])),
            precisions: Precisions::Named(vec![Precision::BF16, Precision::BF16]),
            ..Wishes::default()
        };
        let candidates = backends.candidates(&named, Encoding::Onnx).expect("some");
        assert_eq!(
            shown(&candidates),
            [
                "fake on cpu, 1 thread, bf16",
                "fake on cpu, 3 threads, bf16",
                "fake on gpu:1, bf16"
            ]
        );
        let all = Wishes {
            device: DeviceChoice::Exactly(Device::Gpu(1)),
            precisions: Precisions::All,
            ..Wishes::default()
        };
        let candidates = backends.candidates(&all, Encoding::Onnx).expect("some");
        assert_eq!(
            shown(&candidates),
            [
                "fake on gpu:1, f32",
                "fake on gpu:1, f16?",
                "fake on gpu:1, bf16?",
                "fake on gpu:1, auto?"
            ]
        );
    }

    #[test]
    fn a_device_that_is_not_there_is_an_error() {
        let backends = Backends::new(vec![Arc::new(FakeBackend::new())]);
        let wishes = Wishes {
            device: DeviceChoice::Exactly(Device::Npu),
            ..Wishes::default()
        };
        let error = backends
            .candidates(&wishes, Encoding::Onnx)
            .expect_err("no NPU");
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let wishes = Wishes {
            backend: Some("fakr".to_owned()),
            ..Wishes::default()
        };
        let error = backends
            .candidates(&wishes, Encoding::Onnx)
            .expect_err("unknown");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    }
}
