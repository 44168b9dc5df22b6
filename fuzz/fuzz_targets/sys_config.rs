//! Checks that any file is a configuration or is refused with a message, and that comments around
//! its term change nothing.
#![no_main]

use std::cell::RefCell;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use hecate_daemon::config::{self, Environment, Error, Flags, Loaded};
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

/// A home in memory, with the configuration file. A missing cookie is created there.
struct Home {
    directory: TempDir,
    path: PathBuf,
    file: File,
}

thread_local! {
    static HOME: RefCell<Home> = RefCell::new(Home::new());
}

fuzz_target!(|data: &[u8]| HOME.with_borrow(|home| {
    let loaded = home.load(data);
    let around = [b"%% a comment\n \t", data, b"\n% another"].concat();
    match (loaded, home.load(&around)) {
        (Ok(first), Ok(second)) => {
            assert_eq!(first.config, second.config);
            assert_eq!(first.warnings.len(), second.warnings.len());
        }
        (Err(first), Err(second)) => {
            assert!(!first.to_string().is_empty());
            assert_eq!(std::mem::discriminant(&first), std::mem::discriminant(&second), "{first} {second}");
            let Error::Syntax { error, .. } = first else { return };
            let lines = 1 + data.iter().filter(|byte| **byte == b'\n').count();
            assert!((1..=lines).contains(&error.line), "{error} of {lines}");
        }
        (first, second) => panic!("{first:?} differs from {second:?}"),
    }
}));

impl Home {
    fn new() -> Self {
        let directory = tempfile::tempdir_in("/dev/shm").expect("a directory");
        let path = directory.path().join("sys.config");
        let file = File::create(&path).expect("a file");
        Self { directory, path, file }
    }

    fn load(&self, text: &[u8]) -> Result<Loaded, Error> {
        self.file.write_all_at(text, 0).and_then(|()| self.file.set_len(text.len() as u64)).expect("written");
        let flags = Flags::from([("config", self.path.display().to_string())]);
        let variables = [("HOME".to_owned(), self.directory.path().into())].into();
        config::load(
            &flags,
            &Environment { variables, hostname: "host".to_owned(), account_home: None, misspelled: Vec::new() },
        )
    }
}
