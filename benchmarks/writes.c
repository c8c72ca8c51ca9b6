// Owns the load: `writes N SIZE ALT` makes N writes of SIZE bytes, every ALT-th one (from the first) to stderr; ALT 0: none.
//
// Write i is SIZE - 1 times the letter 'a' + i % 26 and a newline: common.Load knows that too.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv) {
  if (argc != 4) return 2;
  long count = atol(argv[1]), size = atol(argv[2]), alternate = atol(argv[3]);
  char *line = malloc(size);
  line[size - 1] = '\n';
  for (long i = 0; i < count; i++) {
    memset(line, 'a' + i % 26, size - 1);
    int fd = alternate && i % alternate == 0 ? 2 : 1;
    if (write(fd, line, size) != size) {
      perror("writes");
      return 1;
    }
  }
  return 0;
}
