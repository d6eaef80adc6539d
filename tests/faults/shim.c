// A file system that fails now and then: preloaded into a process, it lets calls on some paths fail.
//
// FAULT_PATH: part of the path of the files that fail.       FAULT_CALLS: names of calls, between commas.
// FAULT_KILL: if set, the process is killed instead of the call failing.
// FAULT_ERRNO: the error.   FAULT_SKIP: so many calls pass first.   FAULT_TIMES: so many fail, then all pass again.
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_int seen;

static int fails(const char *call, const char *path) {
  const char *part = getenv("FAULT_PATH"), *calls = getenv("FAULT_CALLS");
  if (!part || !calls || !path || !strstr(path, part)) return 0;
  char word[32];
  snprintf(word, sizeof word, ",%s,", call);
  if (!strstr(calls, word)) return 0;
  int number = atomic_fetch_add(&seen, 1) - atoi(getenv("FAULT_SKIP"));
  if (number < 0 || number >= atoi(getenv("FAULT_TIMES"))) return 0;
  const char *log = getenv("FAULT_LOG");
  if (log) {
    int (*real)(const char *, int, ...) = dlsym(RTLD_NEXT, "open");
    int fd = real(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (fd >= 0) {
      dprintf(fd, "%s %s\n", call, path);
      close(fd);
    }
  }
  if (getenv("FAULT_KILL")) kill(getpid(), SIGKILL);
  errno = atoi(getenv("FAULT_ERRNO"));
  return 1;
}

static int fails_at(const char *call, int fd) {
  char link[64], path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t size = readlink(link, path, sizeof path - 1);
  if (size < 0) return 0;
  path[size] = 0;
  return fails(call, path);
}

#define REAL(name) static __typeof__(&name) real; if (!real) real = dlsym(RTLD_NEXT, #name)
#define MODE(last) mode_t mode = 0; if (flags & (O_CREAT | O_TMPFILE)) { va_list rest; va_start(rest, last); mode = va_arg(rest, mode_t); va_end(rest); }

int open(const char *path, int flags, ...) { REAL(open); MODE(flags) return fails("open", path) ? -1 : real(path, flags, mode); }
int open64(const char *path, int flags, ...) { REAL(open64); MODE(flags) return fails("open", path) ? -1 : real(path, flags, mode); }
int openat(int at, const char *path, int flags, ...) { REAL(openat); MODE(flags) return fails("open", path) ? -1 : real(at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { REAL(openat64); MODE(flags) return fails("open", path) ? -1 : real(at, path, flags, mode); }
ssize_t read(int fd, void *to, size_t n) { REAL(read); return fails_at("read", fd) ? -1 : real(fd, to, n); }
ssize_t pread(int fd, void *to, size_t n, off_t at) { REAL(pread); return fails_at("read", fd) ? -1 : real(fd, to, n, at); }
ssize_t pread64(int fd, void *to, size_t n, off64_t at) { REAL(pread64); return fails_at("read", fd) ? -1 : real(fd, to, n, at); }
ssize_t write(int fd, const void *from, size_t n) { REAL(write); return fails_at("write", fd) ? -1 : real(fd, from, n); }
ssize_t writev(int fd, const struct iovec *v, int n) { REAL(writev); return fails_at("write", fd) ? -1 : real(fd, v, n); }
ssize_t pwrite(int fd, const void *from, size_t n, off_t at) { REAL(pwrite); return fails_at("write", fd) ? -1 : real(fd, from, n, at); }
ssize_t pwrite64(int fd, const void *from, size_t n, off64_t at) { REAL(pwrite64); return fails_at("write", fd) ? -1 : real(fd, from, n, at); }
int fsync(int fd) { REAL(fsync); return fails_at("fsync", fd) ? -1 : real(fd); }
int fdatasync(int fd) { REAL(fdatasync); return fails_at("fsync", fd) ? -1 : real(fd); }
int rename(const char *old, const char *new) { REAL(rename); return fails("rename", new) ? -1 : real(old, new); }
int mkdir(const char *path, mode_t mode) { REAL(mkdir); return fails("mkdir", path) ? -1 : real(path, mode); }
DIR *opendir(const char *path) { REAL(opendir); return fails("list", path) ? NULL : real(path); }
int stat(const char *path, struct stat *to) { REAL(stat); return fails("stat", path) ? -1 : real(path, to); }
int stat64(const char *path, struct stat64 *to) { REAL(stat64); return fails("stat", path) ? -1 : real(path, to); }
