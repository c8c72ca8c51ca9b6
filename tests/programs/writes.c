/* writes N SIZE ALT: N writes of SIZE bytes; every ALT-th goes to stderr (0: none). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    long count = atol(argv[1]), size = atol(argv[2]), alternate = atol(argv[3]);
    char *line = malloc(size);
    for (long i = 0; i < count; i++) {
        memset(line, 'a' + i % 26, size);
        line[size - 1] = '\n';
        if (write(alternate && i % alternate == 0 ? 2 : 1, line, size) != size) {
            perror("write");
            return 1;
        }
    }
    return 0;
}
