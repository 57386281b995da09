# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_gpu_balloon_global_optspecs
    string join \n v/verbose q/quiet h/help V/version
end

function __fish_gpu_balloon_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_gpu_balloon_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_gpu_balloon_using_subcommand
    set -l cmd (__fish_gpu_balloon_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c gpu-balloon -n "__fish_gpu_balloon_needs_command" -s v -l verbose -d 'Say more; twice for details'
complete -c gpu-balloon -n "__fish_gpu_balloon_needs_command" -s q -l quiet -d 'Say nothing but errors'
complete -c gpu-balloon -n "__fish_gpu_balloon_needs_command" -s h -l help -d 'Print help'
complete -c gpu-balloon -n "__fish_gpu_balloon_needs_command" -s V -l version -d 'Print version'
complete -c gpu-balloon -n "__fish_gpu_balloon_needs_command" -f -a "hold" -d 'Reserve memory and hold it until a signal, a timeout or `release`'
complete -c gpu-balloon -n "__fish_gpu_balloon_needs_command" -f -a "run" -d 'Run a command in memory that is reserved before it starts'
complete -c gpu-balloon -n "__fish_gpu_balloon_needs_command" -f -a "status" -d 'Show the GPUs, the balloons, and who holds the rest'
complete -c gpu-balloon -n "__fish_gpu_balloon_needs_command" -f -a "resize" -d 'Change the size of a live balloon'
complete -c gpu-balloon -n "__fish_gpu_balloon_needs_command" -f -a "release" -d 'Release balloons; return once their memory is free'
complete -c gpu-balloon -n "__fish_gpu_balloon_needs_command" -f -a "doctor" -d 'Check the driver, the GPUs and the permissions'
complete -c gpu-balloon -n "__fish_gpu_balloon_needs_command" -f -a "completions" -d 'Print the completions for a shell'
complete -c gpu-balloon -n "__fish_gpu_balloon_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c gpu-balloon -n "__fish_gpu_balloon_using_subcommand hold" -s g -l gpu -d 'GPUs: 0,1 | 0-3 | all | any:2 | GPU-UUID | PCI-ID' -r
complete -c gpu-balloon -n "__fish_gpu_balloon_using_subcommand hold" -s r -l reserve -d 'Size: 2GB | 50% | all-2GB | 4GB,2GB' -r
complete -c gpu-balloon -n "__fish_gpu_balloon_using_subcommand hold" -l chunk-size -d 'Allocate in chunks of this size' -r
complete -c gpu-balloon -n "__fish_gpu_balloon_using_subcommand hold" -s t -l timeout -d 'End the reservation after TIME, such as 90s or 2h30m' -r
complete -c gpu-balloon -n "__fish_gpu_balloon_using_subcommand hold" -s w -l wait -d 'Wait until the whole request fits, at most this long' -r
complete -c gpu-balloon -n "__fish_gpu_balloon_using_subcommand hold" -s n -l name -d 'Name the balloon; without it, its name is the pid' -r
complete -c gpu-balloon -n "__fish_gpu_balloon_using_subcommand hold" -l reason -d 'Say what the memory is for; `status` shows it' -r
complete -c gpu-balloon -n "__fish_gpu_balloon_using_subcommand hold" -l until-exit -d 'End the reservation when the process PID ends' -r
complete -c gpu-balloon -n "__fish_gpu_balloon_using_subcommand hold" -l ready-fd -d 'Write the ready line to file descriptor N too' -r
complete -c gpu-balloon -n "__fish_gpu_balloon_using_subcommand hold" -l greedy -d 'Take what is free now and grow to the whole request'
complete -c gpu-balloon -n "__fish_gpu_balloon_using_subcommand hold" -l if-absent -d 'Do nothing, and succeed, when --name already holds'
complete -c gpu-balloon -n "__fish_gpu_balloon_using_subcommand hold" -s d -l detach -d 'Return once it is held; go on in the background'
complete -c gpu-balloon -n "__fish_gpu_balloon_using_subcommand hold" -l best-effort -d 'Keep what fits instead of all or nothing'
complete -c gpu-balloon -n "__fish_gpu_balloon_using_subcommand hold" -l contextless -d 'Hold without a CUDA context, at next to no overhead'
complete -c gpu-balloon -n "__fish_gpu_balloon_using_subcommand hold" -l json -d 'Print results as JSON'
complete -c gpu-balloon -n "__fish_gpu_balloon_using_subcommand hold" -s v -l verbose -d 'Say more; twice for details'
complete -c gpu-balloon -n "__fish_gpu_balloon_using_subcommand hold" -s q -l quiet -d 'Say nothing but errors'
complete -c gpu-balloon -n "__fish_gpu_balloon_using_subcommand hold" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gpu-balloon -n "__fish_gpu_balloon_using_subcommand run" -s g -l gpu -d 'GPUs: 0,1 | 0-3 | all | any:2 | GPU-UUID | PCI-ID' -r
complete -c gpu-balloon -n "__fish_gpu_balloon_using_subcommand run" -s r -l reserve -d 'Size: 2GB | 50% | all-2GB | 4GB,2GB' -r
complete -c gpu-balloon -n "__fish_gpu_balloon_using_subcommand run" -l chunk-size -d 'Allocate in chunks of this size' -r
complete -c gpu-balloon -n "__fish_gpu_balloon_using_subcommand run" -s t -l timeout -d 'End the reservation after TIME, such as 90s or 2h30m' -r
complete -c gpu-balloon -n "__fish_gpu_balloon_using_subcommand run" -s w -l wait -d 'Wait until the whole request fits, at most this long' -r
complete -c gpu-balloon -n "__fish_gpu_balloon_using_subcommand run" -s n -l name -d 'Name the balloon; without it, its name is the pid' -r
complete -c gpu-balloon -n "__fish_gpu_balloon_using_subcommand run" -l reason -d 'Say what the memory is for; `status` shows it' -r
complete -c gpu-balloon -n "__fish_gpu_balloon_using_subcommand run" -l until-exit -d 'End the reservation when the process PID ends' -r
complete -c gpu-balloon -n "__fish_gpu_balloon_using_subcommand run" -l ready-fd -d 'Write the ready line to file descriptor N too' -r
complete -c gpu-balloon -n "__fish_gpu_balloon_using_subcommand run" -l handover -d 'How the memory passes to the command' -r -f -a "auto\t'By a library preloaded into the command, which borrows where others are faster; by NVML where that cannot go'
preload\t'By the preloaded library alone'
nvml\t'By NVML\'s account of the command\'s processes alone; slower, coarser, and nothing is borrowed'
vmm\t'As auto, but the command always borrows'
off\t'Not at all: the balloon keeps its size beside the command'"
complete -c gpu-balloon -n "__fish_gpu_balloon_using_subcommand run" -l view -d 'What the command is shown as free and total memory' -r -f -a "shared\t'What is free on the GPU and in its balloon, of the GPU\'s total'
capped\t'The reservation as the total'
raw\t'What the driver says'"
complete -c gpu-balloon -n "__fish_gpu_balloon_using_subcommand run" -l summary -d 'At the end, report the command\'s peak and the right --reserve' -r -F
complete -c gpu-balloon -n "__fish_gpu_balloon_using_subcommand run" -l greedy -d 'Take what is free now and grow to the whole request'
complete -c gpu-balloon -n "__fish_gpu_balloon_using_subcommand run" -l if-absent -d 'Do nothing, and succeed, when --name already holds'
complete -c gpu-balloon -n "__fish_gpu_balloon_using_subcommand run" -s d -l detach -d 'Return once it is held; go on in the background'
complete -c gpu-balloon -n "__fish_gpu_balloon_using_subcommand run" -l best-effort -d 'Keep what fits instead of all or nothing'
complete -c gpu-balloon -n "__fish_gpu_balloon_using_subcommand run" -l contextless -d 'Hold without a CUDA context, at next to no overhead'
complete -c gpu-balloon -n "__fish_gpu_balloon_using_subcommand run" -l json -d 'Print results as JSON'
complete -c gpu-balloon -n "__fish_gpu_balloon_using_subcommand run" -l keep-visible -d 'Leave CUDA_VISIBLE_DEVICES and CUDA_DEVICE_ORDER as they are'
complete -c gpu-balloon -n "__fish_gpu_balloon_using_subcommand run" -s v -l verbose -d 'Say more; twice for details'
complete -c gpu-balloon -n "__fish_gpu_balloon_using_subcommand run" -s q -l quiet -d 'Say nothing but errors'
complete -c gpu-balloon -n "__fish_gpu_balloon_using_subcommand run" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gpu-balloon -n "__fish_gpu_balloon_using_subcommand status" -s g -l gpu -d 'Only these GPUs' -r
complete -c gpu-balloon -n "__fish_gpu_balloon_using_subcommand status" -s w -l watch -d 'Show it again and again, every two seconds or TIME' -r
complete -c gpu-balloon -n "__fish_gpu_balloon_using_subcommand status" -l json -d 'Print JSON'
complete -c gpu-balloon -n "__fish_gpu_balloon_using_subcommand status" -s v -l verbose -d 'Say more; twice for details'
complete -c gpu-balloon -n "__fish_gpu_balloon_using_subcommand status" -s q -l quiet -d 'Say nothing but errors'
complete -c gpu-balloon -n "__fish_gpu_balloon_using_subcommand status" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gpu-balloon -n "__fish_gpu_balloon_using_subcommand resize" -s g -l gpu -d 'Only on these GPUs' -r
complete -c gpu-balloon -n "__fish_gpu_balloon_using_subcommand resize" -l chunk-size -d 'Allocate what is new in chunks of this size' -r
complete -c gpu-balloon -n "__fish_gpu_balloon_using_subcommand resize" -s v -l verbose -d 'Say more; twice for details'
complete -c gpu-balloon -n "__fish_gpu_balloon_using_subcommand resize" -s q -l quiet -d 'Say nothing but errors'
complete -c gpu-balloon -n "__fish_gpu_balloon_using_subcommand resize" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gpu-balloon -n "__fish_gpu_balloon_using_subcommand release" -s g -l gpu -d 'Only the part on these GPUs' -r
complete -c gpu-balloon -n "__fish_gpu_balloon_using_subcommand release" -l all -d 'Every balloon of this user'
complete -c gpu-balloon -n "__fish_gpu_balloon_using_subcommand release" -l if-exists -d 'Succeed when there is no such balloon'
complete -c gpu-balloon -n "__fish_gpu_balloon_using_subcommand release" -s v -l verbose -d 'Say more; twice for details'
complete -c gpu-balloon -n "__fish_gpu_balloon_using_subcommand release" -s q -l quiet -d 'Say nothing but errors'
complete -c gpu-balloon -n "__fish_gpu_balloon_using_subcommand release" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gpu-balloon -n "__fish_gpu_balloon_using_subcommand doctor" -l json -d 'Print JSON'
complete -c gpu-balloon -n "__fish_gpu_balloon_using_subcommand doctor" -s v -l verbose -d 'Say more; twice for details'
complete -c gpu-balloon -n "__fish_gpu_balloon_using_subcommand doctor" -s q -l quiet -d 'Say nothing but errors'
complete -c gpu-balloon -n "__fish_gpu_balloon_using_subcommand doctor" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gpu-balloon -n "__fish_gpu_balloon_using_subcommand completions" -s v -l verbose -d 'Say more; twice for details'
complete -c gpu-balloon -n "__fish_gpu_balloon_using_subcommand completions" -s q -l quiet -d 'Say nothing but errors'
complete -c gpu-balloon -n "__fish_gpu_balloon_using_subcommand completions" -s h -l help -d 'Print help'
complete -c gpu-balloon -n "__fish_gpu_balloon_using_subcommand help; and not __fish_seen_subcommand_from hold run status resize release doctor completions help" -f -a "hold" -d 'Reserve memory and hold it until a signal, a timeout or `release`'
complete -c gpu-balloon -n "__fish_gpu_balloon_using_subcommand help; and not __fish_seen_subcommand_from hold run status resize release doctor completions help" -f -a "run" -d 'Run a command in memory that is reserved before it starts'
complete -c gpu-balloon -n "__fish_gpu_balloon_using_subcommand help; and not __fish_seen_subcommand_from hold run status resize release doctor completions help" -f -a "status" -d 'Show the GPUs, the balloons, and who holds the rest'
complete -c gpu-balloon -n "__fish_gpu_balloon_using_subcommand help; and not __fish_seen_subcommand_from hold run status resize release doctor completions help" -f -a "resize" -d 'Change the size of a live balloon'
complete -c gpu-balloon -n "__fish_gpu_balloon_using_subcommand help; and not __fish_seen_subcommand_from hold run status resize release doctor completions help" -f -a "release" -d 'Release balloons; return once their memory is free'
complete -c gpu-balloon -n "__fish_gpu_balloon_using_subcommand help; and not __fish_seen_subcommand_from hold run status resize release doctor completions help" -f -a "doctor" -d 'Check the driver, the GPUs and the permissions'
complete -c gpu-balloon -n "__fish_gpu_balloon_using_subcommand help; and not __fish_seen_subcommand_from hold run status resize release doctor completions help" -f -a "completions" -d 'Print the completions for a shell'
complete -c gpu-balloon -n "__fish_gpu_balloon_using_subcommand help; and not __fish_seen_subcommand_from hold run status resize release doctor completions help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
