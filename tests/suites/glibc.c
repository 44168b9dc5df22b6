/* Debian 13's libei.a calls these functions, which Debian 12's glibc lacks. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

long __isoc23_strtol(const char *text, char **end, int base)
{
    return strtol(text, end, base);
}

int __isoc23_sscanf(const char *text, const char *format, ...)
{
    va_list arguments;
    int converted;

    va_start(arguments, format);
    converted = vsscanf(text, format, arguments);
    va_end(arguments);
    return converted;
}
