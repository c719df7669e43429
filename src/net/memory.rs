//! The memory of the process: how much it may use, and how much it uses.

use crate::net::coarse_clock::CoarseInstant;
use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

/// Knows the memory that the process may use, and whether most of it is used.
#[derive(Debug)]
pub(crate) struct MemoryMonitor {
    /// The limit of the control group or the memory of the machine, in bytes; 0: unknown.
    available: u64,
    /// The [`CoarseInstant`] of the last measurement; 0: there was none.
    measured_at: AtomicU64,
    /// Whether the last measurement found that most of the memory is used.
    is_scarce: AtomicBool,
}

// === impl MemoryMonitor ===

impl MemoryMonitor {
    /// Creates the monitor of this process, with the lowest limit of its control groups, or the memory of the machine.
    pub(crate) fn of_process() -> Self {
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let limits = cgroup_limits(&groups, Path::new("/sys/fs/cgroup"));
        Self::new(limits.chain(machine_memory()).min().unwrap_or(0))
    }

    /// Creates the monitor with this limit in bytes; 0: no limit.
    pub(crate) fn new(available: u64) -> Self {
        MemoryMonitor {
            available,
            measured_at: AtomicU64::new(0),
            is_scarce: AtomicBool::new(false),
        }
    }

    /// Returns the number of bytes that the process may use: `configured`, or those that the system allows if that
    /// is 0; 0: unknown.
    pub(crate) fn max(&self, configured: u64) -> u64 {
        match configured {
            0 => self.available,
            configured => configured,
        }
    }

    /// Returns whether three quarters of `max` bytes are used; measures at most every 100 ms.
    pub(crate) fn is_scarce(&self, max: u64) -> bool {
        if max == 0 {
            return false;
        }
        let now = CoarseInstant::now();
        let (set, fetch) = (Ordering::Relaxed, Ordering::Relaxed);
        let measured_at = self.measured_at.load(fetch);
        let is_due = measured_at == 0 || now.since(CoarseInstant(measured_at)) >= INTERVAL;
        // Of several threads, one measures.
        let claim = |at| self.measured_at.compare_exchange(at, now.0, set, fetch);
        if is_due && claim(measured_at).is_ok() {
            let used = used_bytes().unwrap_or(0);
            let is_scarce = used >= max / 4 * 3;
            self.is_scarce.store(is_scarce, Ordering::Relaxed);
        }
        self.is_scarce.load(Ordering::Relaxed)
    }
}

/// Returns the bytes of the process in memory; `None` without /proc.
pub(crate) fn resident_bytes() -> Option<u64> {
    kibibytes(&fs::read_to_string("/proc/self/status").ok()?, "VmRSS:")
}

/// Returns the bytes that the process has allocated: the pages of the program itself can be read again from its file.
fn used_bytes() -> Option<u64> {
    kibibytes(&fs::read_to_string("/proc/self/status").ok()?, "RssAnon:")
}

fn machine_memory() -> Option<u64> {
    kibibytes(&fs::read_to_string("/proc/meminfo").ok()?, "MemTotal:")
}

/// Returns the bytes in the line that begins with `name`, in a file of /proc.
fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024)
}

/// Returns the memory limits of the control groups in the text of /proc/self/cgroup, and of the groups above them
/// (cgroups(7)): version 2, and version 1 with its controller `memory`. `root` is where they are mounted.
fn cgroup_limits(groups: &str, root: &Path) -> impl Iterator<Item = u64> {
    let files = groups.lines().filter_map(|line| {
        let (_, controllers_and_path) = line.split_once(':')?;
        let (controllers, path) = controllers_and_path.split_once(':')?;
        let (root, file) = match controllers {
            "" => (root.to_path_buf(), "memory.max"),
            _ if controllers.split(',').any(|one| one == "memory") => {
                (root.join("memory"), "memory.limit_in_bytes")
            }
            _ => return None,
        };
        Some(files_up_to(&root, path, file))
    });
    let files: Vec<PathBuf> = files.flatten().collect();
    let limits = files.into_iter().filter_map(|file| {
        // "max" means no limit.
        fs::read_to_string(file).ok()?.trim().parse().ok()
    });
    limits.filter(|limit| (1..NO_LIMIT).contains(limit))
}

/// Returns `file` in the folder `path` below `root` and in all folders above it up to `root`. In a container `path` may
/// be that of the host, which does not exist there; `root` is then the container's own group.
fn files_up_to(root: &Path, path: &str, file: &str) -> Vec<PathBuf> {
    let mut folder = root.join(path.trim_start_matches('/'));
    let mut files = vec![root.join(file)];
    while folder != root && folder.starts_with(root) {
        files.push(folder.join(file));
        folder.pop();
    }
    files
}

/// What the kernel reports for a group of version 1 without a limit, and more than any machine has.
const NO_LIMIT: u64 = 1 << 62;

const INTERVAL: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(groups: &str, root: &Path) -> Vec<u64> {
        let mut limits: Vec<u64> = cgroup_limits(groups, root).collect();
        limits.sort();
        limits
    }

    #[test]
    fn limits_of_a_group_and_of_those_above_it_are_found() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let file = root.path().join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        };
        write("memory.max", "max\n");
        write("system.slice/memory.max", "536870912\n");
        write("system.slice/lockgate.service/memory.max", "67108864\n");
        let own = "0::/system.slice/lockgate.service\n";
        assert_eq!(limits(own, root.path()), [67_108_864, 536_870_912]);
        // The path of the host, as a container without its own namespace of groups sees it.
        write("memory.max", "33554432\n");
        assert_eq!(limits("0::/docker/0123\n", root.path()), [33_554_432]);
        assert_eq!(limits("0::/../other\n", root.path()), [33_554_432]);
        write("memory/lockgate/memory.limit_in_bytes", "1048576\n");
        write("memory/memory.limit_in_bytes", "9223372036854771712\n");
        let version_1 = "3:cpu,cpuacct:/\n2:memory:/lockgate\nnonsense\n";
        assert_eq!(limits(version_1, root.path()), [1_048_576]);
    }

    #[test]
    fn memory_is_scarce_above_three_quarters_of_the_limit() {
        let used = used_bytes().unwrap();
        assert!(used > 0 && resident_bytes().unwrap() > used);
        assert!(machine_memory().unwrap() > used);
        let is_scarce = |max| MemoryMonitor::new(0).is_scarce(max);
        assert!(is_scarce(used) && !is_scarce(used * 8) && !is_scarce(0));
        let monitor = MemoryMonitor::new(1);
        assert_eq!((monitor.max(0), monitor.max(5)), (1, 5));
    }
}
