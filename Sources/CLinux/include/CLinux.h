// Linux calls that Swift cannot reach by itself: variadic system calls and macros. Header only.
#pragma once
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

/// A file descriptor that becomes readable when process `pid` ends; -1 with errno.
static inline int clinux_pidfd_open(pid_t pid) { return (int)syscall(SYS_pidfd_open, pid, 0u); }

#include <sched.h>

/// Binds the calling thread to the cores whose bits are set; 0, or -1 with errno.
static inline int clinux_set_affinity(const void *mask, size_t bytes) {
    return (int)syscall(SYS_sched_setaffinity, 0, bytes, mask);
}

/// Reads the calling thread's cores into `mask`; the bytes written, or -1 with errno.
static inline int clinux_get_affinity(void *mask, size_t bytes) {
    return (int)syscall(SYS_sched_getaffinity, 0, bytes, mask);
}

/// Names the calling thread; the kernel keeps 15 bytes.
static inline void clinux_set_thread_name(const char *name) { prctl(PR_SET_NAME, name, 0, 0, 0); }

/// Sends `signal_number` to the process that `pidfd` names; -1 with errno.
static inline int clinux_pidfd_send_signal(int pidfd, int signal_number) {
    return (int)syscall(SYS_pidfd_send_signal, pidfd, signal_number, (void *)0, 0u);
}

/// A new eventfd, counter 0, non-blocking and closed on exec; -1 with errno.
static inline int clinux_eventfd(void) { return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); }

/// Taking a wait status apart (macros in C).
static inline int clinux_wait_exited(int status) { return WIFEXITED(status); }
static inline int clinux_wait_exit_code(int status) { return WEXITSTATUS(status); }
static inline int clinux_wait_signal(int status) { return WIFSIGNALED(status) ? WTERMSIG(status) : 0; }

/// Closes every descriptor from `first` on in the spawned process (glibc 2.34).
int posix_spawn_file_actions_addclosefrom_np(posix_spawn_file_actions_t *actions, int first);
/// Syncs the file system that holds an open file (declared for GNU sources only).
int syncfs(int descriptor);
int posix_spawn_file_actions_addchdir_np(posix_spawn_file_actions_t *actions, const char *path);

/// Connections hung up since the start because hardly a descriptor was left (see CLinux.c: it stands before glibc's `accept4`).
unsigned long clinux_refused_connections(void);
