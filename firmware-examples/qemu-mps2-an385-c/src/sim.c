/* What an emulated board gets from its host. Numbers: Arm's "Semihosting for AArch32 and AArch64".
 *
 * Without an emulator or debugger that serves it, a call is a hard fault. A real board has its name and token from the image
 * of `holm device add` (holm_provision_read), and its random bits from a generator of its own.
 */

#include "board.h"

#define SYS_OPEN 0x01u
#define SYS_CLOSE 0x02u
#define SYS_READ 0x06u
#define SYS_GET_CMDLINE 0x15u
#define SYS_EXIT_EXTENDED 0x20u
#define APPLICATION_EXIT 0x20026u
#define OPEN_READ_BINARY 1u
#define FAILED 0xFFFFFFFFu

static uint32_t call(uint32_t operation, const void *block)
{
    register uint32_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = block;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

bool sim_arguments(char *out, size_t capacity)
{
    uint32_t block[2] = { (uint32_t)(uintptr_t)out, (uint32_t)capacity - 1 };
    if (call(SYS_GET_CMDLINE, block) != 0 || block[1] >= capacity) {
        return false;
    }
    out[block[1]] = '\0';
    return true;
}

bool sim_entropy(void *out, size_t length)
{
    static const char path[] = "/dev/urandom";
    uint32_t open[3] = { (uint32_t)(uintptr_t)path, OPEN_READ_BINARY, sizeof path - 1 };
    uint32_t file = call(SYS_OPEN, open);
    if (file == FAILED) {
        return false;
    }
    uint32_t read[3] = { file, (uint32_t)(uintptr_t)out, (uint32_t)length };
    uint32_t bytes_missing = call(SYS_READ, read);
    call(SYS_CLOSE, &file);
    return bytes_missing == 0;
}

_Noreturn void sim_exit(uint32_t code)
{
    uint32_t block[2] = { APPLICATION_EXIT, code };
    for (;;) {
        call(SYS_EXIT_EXTENDED, block);
    }
}
