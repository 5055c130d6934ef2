/* What a program on a computer gives the library, and how a test says no. */
#ifndef HOOKS_H
#define HOOKS_H

#include <stdio.h>
#include <stdlib.h>

#include "holm_device.h"

/* One thread: there is nobody to keep out. */
uint32_t holm_hook_lock(void)
{
    return 0;
}

void holm_hook_unlock(uint32_t state)
{
    (void)state;
}

_Noreturn void holm_hook_panic(const char *file, size_t file_length, uint32_t line)
{
    fprintf(stderr, "panic in %.*s:%u\n", (int)file_length, file, line);
    abort();
}

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
            exit(1); \
        } \
    } while (0)

#endif
