//! What `infer tune` chose for models, kept in the user's folder: one file per model, named by the digest of its files.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::num::NonZeroUsize;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use infer_core::{Device, Error, ErrorKind, Precision, Result, run_engine};
use infer_models::Model;
use infer_models::install::{create_folder, file_error, user_folder};
use serde::Deserialize;

use super::Setting;
use crate::backends::Backends;
use crate::config::Selection;

/// The most that a kept choice can be, in bytes.
const LARGEST: u64 = 64 * 1024;

/// Where the processor's name is.
const PROCESSORS: &str = "/proc/cpuinfo";

/// The folder of kept choices.
#[derive(Clone, Debug)]
pub struct TunedStore {
    folder: PathBuf,
}

/// A choice for one model, and what it was measured with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// How to run the model.
    pub setting: Setting,
    /// The version of infer.
    pub infer: String,
    /// The version of the engine.
    pub engine: String,
    /// The processor's name.
    pub processor: String,
}

/// A choice as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    backend: String,
    device: String,
    threads: Option<NonZeroUsize>,
    precision: String,
    infer_version: String,
    engine_version: String,
    processor: String,
    /// The size of the model's files: those of another size need no digest.
    model_bytes: u64,
}

impl Choice {
    /// This setting, on this machine.
    ///
    /// # Errors
    /// `NotFound` for a backend that cannot be used.
    pub fn here(setting: &Setting, backends: &Backends) -> Result<Choice> {
        Ok(Choice {
            engine: engine_version(setting, backends)?,
            setting: setting.clone(),
            infer: env!("CARGO_PKG_VERSION").to_owned(),
            processor: processor(),
        })
    }

    /// What is not as it was when this was measured.
    fn check(&self, backends: &Backends) -> std::result::Result<(), String> {
        let Setting { backend, .. } = &self.setting;
        let engine = engine_version(&self.setting, backends).map_err(|error| error.report())?;
        if engine != self.engine {
            let before = &self.engine;
            return Err(format!("it is for {backend} {before}, here is {engine}"));
        }
        let processor = processor();
        if processor != self.processor {
            let before = &self.processor;
            return Err(format!("it is for `{before}`, this is `{processor}`"));
        }
        Ok(())
    }
}

impl TunedStore {
    /// The user's store: `$INFER_HOME/tuned`, else `$XDG_DATA_HOME/infer/tuned`, else `~/.local/share/infer/tuned`.
    /// It need not be there yet.
    ///
    /// # Errors
    /// `NotFound` where a relative folder is meant and the current one is gone.
    pub fn from_environment() -> Result<TunedStore> {
        Ok(TunedStore::at(user_folder()?.join("tuned")))
    }

    /// A store in the given folder.
    pub fn at(folder: impl Into<PathBuf>) -> TunedStore {
        TunedStore {
            folder: folder.into(),
        }
    }

    /// Keeps a choice, in place of an earlier one, and gives its file. Only this user can read it, and it is there whole
    /// or not at all.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn save(&self, files: &Model, choice: &Choice) -> Result<PathBuf> {
        let path = self.path(files)?;
        let text = written(choice, files.sha256_bytes()?);
        create_folder(&self.folder)?;
        let made = path.with_extension(format!("{}.new", std::process::id()));
        let moved = write_private(&made, &text)
            .map_err(|error| file_error("write", &made, error))
            .and_then(|()| {
                fs::rename(&made, &path).map_err(|error| file_error("create", &path, error))
            });
        if moved.is_err() {
            // What went wrong is said already.
            let _ = fs::remove_file(&made);
        }
        moved.map(|()| path)
    }

    /// Removes the model's choice, whatever is in the file, and gives the file that was; `None` where nothing was kept.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn forget(&self, files: &Model) -> Result<Option<PathBuf>> {
        if self.entries().is_empty() {
            return Ok(None);
        }
        let path = self.path(files)?;
        match fs::remove_file(&path) {
            Ok(()) => Ok(Some(path)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(file_error("remove", &path, error)),
        }
    }

    /// The model's choice. The model's files are read only if a choice may be theirs.
    ///
    /// # Errors
    /// `InvalidEncoding` for a file that is no choice; those of the file system.
    pub fn find(&self, files: &Model) -> Result<Option<Choice>> {
        let entries = self.entries();
        if entries.is_empty() {
            return Ok(None);
        }
        let bytes = files.sha256_bytes()?;
        // Whose a file is that cannot be read only its name says.
        let may_be = |path: &PathBuf| read(path).map_or(true, |kept| kept.model_bytes == bytes);
        if !entries.iter().any(may_be) {
            return Ok(None);
        }
        let path = self.path(files)?;
        if !entries.contains(&path) {
            return Ok(None);
        }
        choice(read(&path)?, &path).map(Some)
    }

    /// What to run the model with: the kept choice, the rest as in `usual`. Where nothing is kept, what is kept cannot
    /// be read, or it was measured with something else than is here, that is `usual`; the latter two are warned of.
    pub fn selection(&self, usual: &Selection, files: &Model, backends: &Backends) -> Selection {
        let name = &files.name;
        let warn = |why: &str| {
            tracing::warn!(
                "model `{name}`: what `infer tune` chose is not used: {why} (`infer tune --save` measures anew, \
                 --forget removes it)"
            );
            usual.clone()
        };
        let choice = match self.find(files) {
            Ok(None) => return usual.clone(),
            Ok(Some(choice)) => choice,
            Err(error) => return warn(&error.report()),
        };
        if let Err(why) = choice.check(backends) {
            return warn(&why);
        }
        let tuned = choice.setting.selection();
        Selection {
            backend: tuned.backend,
            device: tuned.device,
            options: infer_core::LoadOptions {
                precision: tuned.options.precision,
                threads: tuned.options.threads,
                ..usual.options.clone()
            },
            reason: Some(format!("{}, as `infer tune` chose", choice.setting)),
            ..usual.clone()
        }
    }

    fn entries(&self) -> Vec<PathBuf> {
        let entries = self.folder.read_dir().into_iter().flatten();
        entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| {
                path.extension()
                    .is_some_and(|extension| extension == "toml")
            })
            .collect()
    }

    fn path(&self, files: &Model) -> Result<PathBuf> {
        Ok(self.folder.join(format!("{}.toml", files.sha256()?)))
    }
}

fn engine_version(setting: &Setting, backends: &Backends) -> Result<String> {
    let Setting {
        backend, device, ..
    } = setting;
    let missing = |what: String| Error::new(ErrorKind::NotFound, what);
    let mut all = backends.all().iter();
    let backend = all
        .find(|known| known.name() == backend)
        .ok_or_else(|| missing(format!("there is no backend `{backend}`")))?;
    let probe = run_engine(backend.name(), || backend.probe())?;
    if !probe.devices.iter().any(|info| info.device == *device) {
        let (name, version) = (backend.name(), &probe.version);
        return Err(missing(format!("{name} {version} does not have {device}")));
    }
    Ok(probe.version)
}

/// The processor's name, or its architecture where the system does not say.
fn processor() -> String {
    let text = fs::read_to_string(PROCESSORS).unwrap_or_default();
    let name = text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == "model name").then(|| value.trim().to_owned())
    });
    name.unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

fn written(choice: &Choice, bytes: u64) -> String {
    let Setting {
        backend,
        device,
        threads,
        precision,
    } = &choice.setting;
    let mut text = "# What `infer tune --save` chose for the model whose files have this file's name as sha256.\n"
        .to_owned();
    let mut say = |key: &str, value: &str| text += &format!("{key} = {value}\n");
    say("backend", &quoted(backend));
    say("device", &quoted(&device.to_string()));
    if let Some(threads) = threads {
        say("threads", &threads.to_string());
    }
    say("precision", &quoted(&precision.to_string()));
    say("infer_version", &quoted(&choice.infer));
    say("engine_version", &quoted(&choice.engine));
    say("processor", &quoted(&choice.processor));
    say("model_bytes", &bytes.to_string());
    text
}

/// A TOML string; its escapes are those of JSON, which leaves this one control character as it is.
fn quoted(text: &str) -> String {
    let text = serde_json::Value::from(text).to_string();
    text.replace('\u{7f}', "\\u007f")
}

fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn read(path: &Path) -> Result<Written> {
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(LARGEST).read_to_string(&mut text))
        .map_err(|error| file_error("read", path, error))?;
    toml::from_str(&text).map_err(|error| {
        let message = format!(
            "`{}`: expected what `infer tune --save` writes: {}",
            path.display(),
            error.message()
        );
        Error::new(ErrorKind::InvalidEncoding, message)
    })
}

fn choice(written: Written, path: &Path) -> Result<Choice> {
    let wrong = |what: &str, got: &str| {
        let message = format!("`{}`: expected {what}, got `{got}`", path.display());
        Error::new(ErrorKind::InvalidEncoding, message)
    };
    let setting = Setting {
        device: device(&written.device).ok_or_else(|| wrong("a device", &written.device))?,
        precision: precision(&written.precision)
            .ok_or_else(|| wrong("a precision", &written.precision))?,
        backend: written.backend,
        threads: written.threads,
    };
    Ok(Choice {
        setting,
        infer: written.infer_version,
        engine: written.engine_version,
        processor: written.processor,
    })
}

fn device(text: &str) -> Option<Device> {
    match text {
        "cpu" => Some(Device::Cpu),
        "npu" => Some(Device::Npu),
        _ => text.strip_prefix("gpu:")?.parse().map(Device::Gpu).ok(),
    }
}

fn precision(text: &str) -> Option<Precision> {
    let all = [
        Precision::F32,
        Precision::F16,
        Precision::BF16,
        Precision::Auto,
    ];
    all.into_iter().find(|known| known.to_string() == text)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Arc;

    use infer_core::LoadOptions;
    use infer_core::testing::FakeBackend;

    use super::*;
    use crate::config::DeviceChoice;
    use crate::tune::tests::{model, write};

    fn setting() -> Setting {
        Setting {
            backend: "fake".to_owned(),
            device: Device::Gpu(3),
            threads: NonZeroUsize::new(2),
            precision: Precision::BF16,
        }
    }

    fn backends(devices: &[Device]) -> Backends {
        Backends::new(vec![Arc::new(FakeBackend::new().with_devices(devices))])
    }

    fn here() -> (Backends, Choice) {
        let backends = backends(&[Device::Cpu, Device::Gpu(3)]);
        let choice = Choice::here(&setting(), &backends).unwrap();
        (backends, choice)
    }

    fn is_usual(store: &TunedStore, files: &Model, backends: &Backends) -> bool {
        let selection = store.selection(&Selection::default(), files, backends);
        selection.reason.is_none() && selection.backend.is_none()
    }

    #[test]
    fn a_choice_is_kept_used_and_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let files = model(folder.path(), "add");
        let store = TunedStore::at(folder.path().join("below/tuned"));
        let (backends, choice) = here();
        assert_eq!(store.find(&files).unwrap(), None);
        assert_eq!(store.forget(&files).unwrap(), None);
        assert!(is_usual(&store, &files, &backends));

        let path = store.save(&files, &choice).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let digest = infer_models::install::sha256(&files.files[0]).unwrap();
        assert_eq!(
            path.file_name().unwrap().to_str().unwrap(),
            format!("{digest}.toml")
        );
        assert_eq!(store.find(&files).unwrap(), Some(choice.clone()));
        let usual = Selection {
            strict_device: true,
            options: LoadOptions {
                cache: Some(folder.path().to_owned()),
                ..LoadOptions::default()
            },
            ..Selection::default()
        };
        let selection = store.selection(&usual, &files, &backends);
        assert_eq!(selection.backend.as_deref(), Some("fake"));
        assert_eq!(selection.device, DeviceChoice::Exactly(Device::Gpu(3)));
        assert_eq!(selection.options.precision, Precision::BF16);
        assert_eq!(selection.options.threads, NonZeroUsize::new(2));
        assert_eq!(selection.options.cache, usual.options.cache);
        assert!(selection.strict_device);
        assert_eq!(
            selection.reason.unwrap(),
            "fake on gpu:3, 2 threads, bf16, as `infer tune` chose"
        );

        // A later one replaces it, and nothing else is left behind.
        let mut later = choice;
        later.setting.threads = None;
        store.save(&files, &later).unwrap();
        assert_eq!(store.find(&files).unwrap(), Some(later));
        assert_eq!(path.parent().unwrap().read_dir().unwrap().count(), 1);
        assert_eq!(store.forget(&files).unwrap(), Some(path));
        assert_eq!(store.find(&files).unwrap(), None);
    }

    #[test]
    fn another_model_has_no_choice() {
        let folder = tempfile::tempdir().unwrap();
        let store = TunedStore::at(folder.path().join("tuned"));
        let (_, choice) = here();
        let files = model(folder.path(), "add");
        store.save(&files, &choice).unwrap();
        for description in ["bool", "several"] {
            write(&files, description);
            assert_eq!(store.find(&files).unwrap(), None, "{description}");
        }
    }

    #[test]
    fn a_choice_for_something_else_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let files = model(folder.path(), "add");
        let store = TunedStore::at(folder.path().join("tuned"));
        let (present, choice) = here();
        let same = choice.clone();
        store.save(&files, &same).unwrap();
        assert!(!is_usual(&store, &files, &present));
        // The device is gone, then the backend.
        assert!(is_usual(&store, &files, &backends(&[Device::Cpu])));
        assert!(is_usual(&store, &files, &Backends::new(Vec::new())));
        for (engine, processor) in [("0.9", &*same.processor), (&same.engine, "Z80")] {
            let other = Choice {
                engine: engine.to_owned(),
                processor: processor.to_owned(),
                ..choice.clone()
            };
            store.save(&files, &other).unwrap();
            assert!(is_usual(&store, &files, &present), "{other:?}");
        }
    }

    #[test]
    fn a_broken_file_is_an_error_and_then_as_usual() {
        let folder = tempfile::tempdir().unwrap();
        let files = model(folder.path(), "add");
        let store = TunedStore::at(folder.path().join("tuned"));
        let (backends, choice) = here();
        let path = store.save(&files, &choice).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let cases = [
            ("", "missing field `backend`"),
            ("\u{0}[[", ""),
            (
                &*text.replace("gpu:3", "gpu:x"),
                "expected a device, got `gpu:x`",
            ),
            (
                &*text.replace("bf16", "f8"),
                "expected a precision, got `f8`",
            ),
            (&*text.replace("threads = 2", "threads = 0"), ""),
            (&*(text.clone() + "more = 1\n"), "unknown field `more`"),
        ];
        for (broken, message) in cases {
            fs::write(&path, broken).unwrap();
            let error = store.find(&files).expect_err(broken);
            assert_eq!(error.kind(), ErrorKind::InvalidEncoding, "{broken}");
            assert!(error.to_string().contains(message), "{error}");
            assert!(is_usual(&store, &files, &backends));
        }
        fs::write(&path, [0xff]).unwrap();
        assert!(store.find(&files).is_err() && is_usual(&store, &files, &backends));
        assert!(store.forget(&files).unwrap().is_some());
    }

    #[test]
    fn any_text_can_be_written() {
        let folder = tempfile::tempdir().unwrap();
        let files = model(folder.path(), "add");
        let store = TunedStore::at(folder.path());
        let (_, choice) = here();
        let odd = Choice {
            processor: "a \"b\" \\ \u{7f}\t\u{1}é".to_owned(),
            ..choice
        };
        store.save(&files, &odd).unwrap();
        assert_eq!(store.find(&files).unwrap(), Some(odd));
    }
}
