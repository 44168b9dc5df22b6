/* Preloaded into a process, makes each fsync(2) 1 ms longer, like a disk that writes durably. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>

int fsync(int fd)
{
    static const struct timespec longer = { .tv_sec = 0, .tv_nsec = 1000000 };
    int (*of_libc)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");

    nanosleep(&longer, NULL);
    return of_libc(fd);
}
