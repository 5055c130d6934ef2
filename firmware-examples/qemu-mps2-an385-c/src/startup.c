/* From reset to main: vectors, statics, stack. */

#include "board.h"

#define PAINT 0xAAAA5555u
/* Left free for the frame of the painter. */
#define MARGIN_WORDS 64

/* Exit code after a fault. */
#define EXIT_HARD_FAULT 102

extern uint32_t data_start[], data_end[], data_image[], bss_start[], bss_end[], stack_bottom[], stack_top[];

int main(void);
void on_reset(void);

static void on_fault(void)
{
    say("hard fault: cfsr %x", (uint64_t) * (volatile uint32_t *)0xE000ED28u);
    sim_exit(EXIT_HARD_FAULT);
}

typedef void (*vector)(void);

/* Armv7-M: the stack, 15 exceptions, then interrupts. */
__attribute__((section(".vectors"), used)) static const vector vectors[16 + 4] = {
    [0] = (vector)(uintptr_t)stack_top,
    [1] = on_reset,
    [2] = on_fault, /* NMI */
    [3] = on_fault, /* hard fault */
    [4] = on_fault, /* memory management */
    [5] = on_fault, /* bus fault */
    [6] = on_fault, /* usage fault */
    [11] = on_fault, /* SVC */
    [12] = on_fault, /* debug monitor */
    [14] = on_fault, /* PendSV */
    [15] = on_tick,
    [16 + 0] = on_fault, /* UART0 receives: not enabled */
    [16 + 1] = on_fault, /* UART0 sends: not enabled */
    [16 + 2] = on_uart1,
    [16 + 3] = on_uart1,
};

void on_reset(void)
{
    const uint32_t *from = data_image;
    for (uint32_t *word = data_start; word < data_end; word++) {
        *word = *from++;
    }
    for (uint32_t *word = bss_start; word < bss_end; word++) {
        *word = 0;
    }
    uint32_t *stack_pointer;
    __asm__ volatile("mov %0, sp" : "=r"(stack_pointer));
    for (volatile uint32_t *word = stack_bottom; word < stack_pointer - MARGIN_WORDS; word++) {
        *word = PAINT;
    }
    sim_exit((uint32_t)main());
}

uint32_t stack_high_water_bytes(void)
{
    const volatile uint32_t *word = stack_bottom;
    while (word < stack_top && *word == PAINT) {
        word++;
    }
    return (uint32_t)((uintptr_t)stack_top - (uintptr_t)word);
}
