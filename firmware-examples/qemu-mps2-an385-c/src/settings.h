/* What the command line says: `key=value` words. */
#ifndef SETTINGS_H
#define SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    const char *name;   /* name= */
    const char *token;  /* token=; NULL where the gateway trusts the line */
    uint8_t address;    /* address=; 0: a line of its own */
    uint32_t period_ms; /* period_ms=, from reading to reading */
} settings;

/* Reads the words behind the firmware's name; cuts `line` into them. NULL, or the word that it does not understand. */
const char *settings_read(char *line, settings *out);

#endif
