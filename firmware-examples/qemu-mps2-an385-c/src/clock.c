/* Milliseconds, by the core's SysTick, and the lock of interrupts. */

#include "board.h"

#define CORE_HZ 25000000u

#define SYSTICK_CONTROL (*(volatile uint32_t *)0xE000E010u)
#define SYSTICK_RELOAD (*(volatile uint32_t *)0xE000E014u)
#define SYSTICK_VALUE (*(volatile uint32_t *)0xE000E018u)
/* On, with its interrupt, by the clock of the core. */
#define SYSTICK_ON 7u

static volatile uint64_t ticks_ms;

void on_tick(void)
{
    ticks_ms++;
}

void clock_start(void)
{
    SYSTICK_RELOAD = CORE_HZ / 1000 - 1;
    SYSTICK_VALUE = 0;
    SYSTICK_CONTROL = SYSTICK_ON;
}

uint64_t clock_ms(void)
{
    /* Two words are not read at once. */
    uint32_t state = lock();
    uint64_t now_ms = ticks_ms;
    unlock(state);
    return now_ms;
}

void wait_for_interrupt(void)
{
    __asm__ volatile("wfi" ::: "memory");
}

uint32_t lock(void)
{
    uint32_t state;
    __asm__ volatile("mrs %0, primask\n cpsid i" : "=r"(state)::"memory");
    return state;
}

void unlock(uint32_t state)
{
    __asm__ volatile("msr primask, %0" ::"r"(state) : "memory");
}
