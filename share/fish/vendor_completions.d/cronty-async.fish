# Made from dtee_async/cli/options.py by 'make share': change that.

function __cronty_async_command --description 'the command on the command line, and what follows'
    set -l words (commandline -opc) (commandline -ct)
    set -e words[1]
    argparse -s o/out-append=+ O/out-overwrite=+ e/err-append=+ E/err-overwrite=+ c/combined-append=+ C/combined-overwrite=+ capture= watch-fds= stderr-apart wait-for= i/ignore-interrupts h/help V/version -- $words 2>/dev/null
    or return
    set -q argv[1]
    and not string match -q -- '-*' $argv[1]
    or return
    string join0 -- $argv
    return 0
end

function __cronty_async_complete_command
    __fish_complete_subcommand --commandline (__cronty_async_command | string split0)
end

complete -c cronty-async -x -n '__cronty_async_command >/dev/null' -a '(__cronty_async_complete_command)'
complete -c cronty-async -n 'not __cronty_async_command >/dev/null' -s o -l out-append -d 'append standard output to FILE' -r -F
complete -c cronty-async -n 'not __cronty_async_command >/dev/null' -s O -l out-overwrite -d 'write standard output to FILE' -r -F
complete -c cronty-async -n 'not __cronty_async_command >/dev/null' -s e -l err-append -d 'append standard error to FILE' -r -F
complete -c cronty-async -n 'not __cronty_async_command >/dev/null' -s E -l err-overwrite -d 'write standard error to FILE' -r -F
complete -c cronty-async -n 'not __cronty_async_command >/dev/null' -s c -l combined-append -d 'append both, in order, to FILE' -r -F
complete -c cronty-async -n 'not __cronty_async_command >/dev/null' -s C -l combined-overwrite -d 'write both, in order, to FILE' -r -F
complete -c cronty-async -n 'not __cronty_async_command >/dev/null' -l capture -d 'how to capture: auto (default), ordered, turnstile, pipe or pty' -x -a 'auto ordered turnstile pipe pty'
complete -c cronty-async -n 'not __cronty_async_command >/dev/null' -l watch-fds -d 'with --capture=turnstile: the file descriptors to order, 1-2 (default) or 1-9' -x -a '1-2 1-9'
complete -c cronty-async -n 'not __cronty_async_command >/dev/null' -l stderr-apart -d 'with --capture=pty: standard error does not go through the terminal'
complete -c cronty-async -n 'not __cronty_async_command >/dev/null' -l wait-for -d 'end with the command'"'"'s exit (default), or when its last writers are gone' -x -a 'exit writers'
complete -c cronty-async -n 'not __cronty_async_command >/dev/null' -s i -l ignore-interrupts -d 'ignore interrupt signals; the command still gets its own'
complete -c cronty-async -n 'not __cronty_async_command >/dev/null' -s h -l help -d 'show this and exit'
complete -c cronty-async -n 'not __cronty_async_command >/dev/null' -s V -l version -d 'show the version and exit'
