#define _GNU_SOURCE
#include "CLinux.h"
#include <stdatomic.h>
#include <sys/socket.h>

// libzmq 4.3.4 aborts the process when accept4 fails with EMFILE on an ipc socket (ipc_listener.cpp, errno_assert). This
// definition stands before glibc's in the search order, so libzmq calls it: a connection that would take one of the last
// `reserve` descriptors is hung up at once, which libzmq bears (ECONNABORTED) and its peer tries again by itself. Descriptors
// are given out lowest first, so one that high says that all below it are taken.

enum { reserve = 64 };
static atomic_ulong refused;

unsigned long clinux_refused_connections(void) { return atomic_load_explicit(&refused, memory_order_relaxed); }

int accept4(int listener, struct sockaddr *restrict address, socklen_t *restrict size, int flags) {
    int descriptor = (int)syscall(SYS_accept4, listener, address, size, flags);
    if (descriptor < 0 && errno != EMFILE) return descriptor;
    struct rlimit limit;
    if (descriptor >= 0 && (getrlimit(RLIMIT_NOFILE, &limit) != 0 || (rlim_t)descriptor + reserve < limit.rlim_cur))
        return descriptor;
    atomic_fetch_add_explicit(&refused, 1, memory_order_relaxed);
    if (descriptor >= 0)
        close(descriptor);
    else
        usleep(10000); // Nothing can be taken off the listener's queue: do not spin on it.
    errno = ECONNABORTED;
    return -1;
}
