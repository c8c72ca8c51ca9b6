#include <stdio.h>

#include "words.h"

void print_count(struct count count)
{
    printf("%d lines, %ld words, %ld bytes\n", count.lines, count.words, count.bytes);
}
