#!/usr/bin/perl
# A whole worker in Perl without any library for ZeroMQ: its wire form (ZMTP 3.0) is a few lines over a socket.
#
#     loraqd --workers examples/perl        then   loraq batch lines.jsonl --kind shout --wait
#
# One kind, `shout`: {"custom_id", "text"} becomes {"custom_id", "text"} in capitals. Lines are answered at once, so nothing
# runs between messages; what is not acknowledged is kept, told in every BEAT, and sent again to a broker that was started
# anew. docs/protocol.md has the rules.
use strict;
use warnings;
use IO::Select;
use IO::Socket::UNIX;
use JSON::PP;
use Time::HiRes qw(time);

my $MAXIMUM_FRAME = 16 << 20;
my $ROOM          = 64;         # tasks that may be sent and not acknowledged
my $json          = JSON::PP->new->canonical->utf8;
my ($dispatch, $results);       # connections
my ($session, $hello_id, $hellos) = ('', '', 0);
my ($next_hello, $next_beat, $heartbeat_s, $lease_s, $heard) = (0, 0, 1, 15, time);
my ($credit, $sequence, $draining) = (0, 0, 0);
my %spool;                      # "task attempt" => result with its body, until it is acknowledged
$SIG{TERM} = $SIG{INT} = sub { $draining = 1 };
$SIG{PIPE} = 'IGNORE';

# --- ZMTP 3.0 (rfc.zeromq.org/spec/23), security mechanism NULL

sub connect_to {
    my ($endpoint, $type) = @_;
    my ($path) = $endpoint =~ m{^ipc://(.+)} or die "only ipc:// is spoken here, not $endpoint\n";
    my $socket = IO::Socket::UNIX->new(Peer => $path) or return undef;
    my $peer = {socket => $socket, in => '', frames => [], ready => 0};
    my $greeting = "\xFF" . "\0" x 8 . "\x7F" . "\x03\x00" . 'NULL' . "\0" x 16 . "\0" . "\0" x 31;
    my $ready = "\x05READY\x0BSocket-Type" . pack('N/a*', $type);
    $ready .= "\x08Identity" . pack('N', 0) if $type eq 'DEALER';
    write_all($peer, $greeting . "\x04" . pack('C/a*', $ready)) or return undef;
    return $peer;
}

sub write_all {
    my ($peer, $bytes) = @_;
    my $done = 0;
    while ($done < length $bytes) {
        my $written = syswrite($peer->{socket}, $bytes, length($bytes) - $done, $done);
        next if !defined $written && $!{EINTR};
        return 0 if !defined $written;
        $done += $written;
    }
    return 1;
}

sub send_frames {
    my ($peer, @frames) = @_;
    my $bytes = '';
    for my $i (0 .. $#frames) {
        my $flags = $i < $#frames ? 1 : 0;
        my $size = length $frames[$i];
        $bytes .= $size < 256 ? pack('CC', $flags, $size) : pack('CQ>', $flags | 2, $size);
        $bytes .= $frames[$i];
    }
    return write_all($peer, $bytes);
}

# Reads what has come; gives whole messages. False when the connection is gone.
sub read_messages {
    my ($peer) = @_;
    my $got = sysread($peer->{socket}, $peer->{in}, 65536, length $peer->{in});
    return undef if defined $got ? $got == 0 : !$!{EINTR};
    my @messages;
    if (!$peer->{ready}) {
        return [] if length $peer->{in} < 64;
        substr($peer->{in}, 0, 64) = '';
        $peer->{ready} = 1;
    }
    while (length $peer->{in} >= 2) {
        my $flags = ord $peer->{in};
        my $head = $flags & 2 ? 9 : 2;
        last if length $peer->{in} < $head;
        my $size = $flags & 2 ? unpack('Q>', substr($peer->{in}, 1, 8)) : ord substr($peer->{in}, 1, 1);
        return undef if $size > $MAXIMUM_FRAME;
        last if length $peer->{in} < $head + $size;
        my $frame = substr($peer->{in}, $head, $size);
        substr($peer->{in}, 0, $head + $size) = '';
        next if $flags & 4;    # a command, such as READY
        push @{$peer->{frames}}, $frame;
        next if $flags & 1;
        push @messages, $peer->{frames};
        $peer->{frames} = [];
    }
    return \@messages;
}

# --- LQP/1

sub send_message {
    my ($peer, $verb, $header, @bodies) = @_;
    $header->{bodies} = [map { {name => 'result', bytes => length $_} } @bodies] if @bodies;
    send_frames($peer, 'LQP/1', $verb, $json->encode($header), @bodies) or lose_connection();
}

sub lose_connection {
    ($dispatch, $results, $session, $next_hello) = (undef, undef, '', 0);
}

sub reference { my ($of) = @_; return (task => $of->{task}, attempt => $of->{attempt}, lease => $of->{lease}) }

sub say_hello {
    $hello_id = "hello-$$-" . $hellos++;
    ($session, $next_hello) = ('', time + 1);
    my @holding = map { {reference($_->{result}), finished => JSON::PP::true, class => 'slot'} } values %spool;
    send_message($dispatch, 'HELLO', {
        request_id => $hello_id, instance => $ENV{LORAQ_INSTANCE}, plugin => $ENV{LORAQ_PLUGIN}, plugin_version => '1.0',
        pid => $$, kinds => ['shout'], numerics => 'perl', holding => \@holding,
    });
}

sub send_results {
    for my $entry (@_) {
        return if !$session;
        my $result = {%{$entry->{result}}, body => 0};
        send_message($results, 'RESULT', {session => $session, seq => ++$sequence, results => [$result]}, $entry->{body});
    }
}

# Totals since HELLO: what was sent, of which what it said it holds, and what may still come.
sub send_credit {
    send_message($dispatch, 'CREDIT', {session => $session, classes => {slot => $credit}}) if $session && !$draining;
}

sub beat {
    my ($rss) = (do { local @ARGV = ("/proc/$$/statm"); <> }) =~ /^\d+ (\d+)/;
    my @held = map { {reference($_->{result}), progress => 1} } values %spool;
    send_message($dispatch, 'BEAT', {session => $session, held => \@held, rss_bytes => $rss * 4096});
    send_credit();
    $next_beat = time + $heartbeat_s;
}

sub answer {
    my ($task, $line) = @_;
    my $request = eval { $json->decode($line) };
    my $result = {reference($task), outcome => 'ok'};
    my $body = {id => $task->{task}, custom_id => $task->{custom_id}};
    my $text = ref $request eq 'HASH' ? $request->{text} : undef;
    my ($code, $message) = ('BAD_LINE', '`text` must be a string');
    ($code, $message) = ('UNKNOWN_KIND', "this worker has no kind $task->{kind}") if $task->{kind} ne 'shout';
    if ($task->{kind} eq 'shout' && defined $text && !ref $text) {
        $body->{text} = uc $text;
    } else {
        $result->{outcome} = 'error';
        $result->{error} = {code => $code, class => 'user', message => $message};
        $body = {%$body, response => undef, error => {code => $code, message => $message}};
    }
    return {result => $result, body => $json->encode($body)};
}

sub take {
    my ($verb, $header, @bodies) = @_;
    $heard = time;
    if ($verb eq 'WELCOME' && ($header->{request_id} // '') eq $hello_id) {
        ($session, $sequence) = ($header->{session}, 0);
        ($heartbeat_s, $lease_s) = ($header->{heartbeat_ms} / 1000, $header->{lease_ms} / 1000);
        delete $spool{"$_->{task} $_->{attempt}"} for @{$header->{drop} // []};
        $credit = keys(%spool) + ($ROOM > keys %spool ? $ROOM - keys %spool : 0);
        send_results(values %spool);
        beat() if $session;
    } elsif ($verb eq 'TASK' && $session && ($header->{session} // $session) eq $session) {
        for my $task (@{$header->{tasks}}) {
            my $name = "$task->{task} $task->{attempt}";
            next if $spool{$name};
            my $line = defined $task->{body} ? $bodies[$task->{body}] : 'null';
            $spool{$name} = answer($task, $line);
            send_results($spool{$name});
        }
    } elsif ($verb eq 'RESULT_ACK') {
        forget($header->{results});
    } elsif ($verb eq 'BEAT_ACK') {
        forget($header->{drop});
    } elsif ($verb eq 'DRAIN') {
        $draining = 1;
    } elsif ($verb eq 'ERROR') {
        my $error = $header->{error};
        die "refused: $error->{code}: $error->{message}\n"
            if !$session && ($header->{request_id} // '') eq $hello_id && $error->{class} =~ /^(user|auth)$/;
        ($session, $next_hello) = ('', 0) if $error->{code} eq 'UNKNOWN_SESSION';
    }
}

# What was taken makes room for as many more.
sub forget {
    my ($references) = @_;
    for my $reference (@{$references // []}) {
        $credit++ if delete $spool{"$reference->{task} $reference->{attempt}"};
    }
    send_credit();
}

sub receive {
    my ($peer) = @_;
    my $messages = read_messages($peer) or return lose_connection();
    for my $frames (@$messages) {
        my ($tag, $verb, $text, @bodies) = @$frames;
        next if !defined $text || $tag ne 'LQP/1';
        my $header = eval { $json->decode($text) };
        next if ref $header ne 'HASH';
        eval { take($verb, $header, @bodies); 1 } or ($@ =~ /^refused/ ? die $@ : warn "$verb: $@");
    }
}

for my $name (qw(LORAQ_DISPATCH LORAQ_RESULTS LORAQ_INSTANCE LORAQ_PLUGIN)) {
    die "$name is not set: a worker is started by loraqd\n" if !$ENV{$name};
}
my $grace_s = ($ENV{LORAQ_BROKER_GRACE_MS} // 600_000) / 1000;
while (1) {
    my $now = time;
    if (!$dispatch || !$results) {
        ($dispatch, $results) = (connect_to($ENV{LORAQ_DISPATCH}, 'DEALER'), connect_to($ENV{LORAQ_RESULTS}, 'PUSH'));
    }
    last if $now - $heard > ($draining ? $lease_s : $grace_s);
    if (!$dispatch || !$results) { select undef, undef, undef, 0.2; next }
    lose_connection(), next if $session && $now - $heard > $lease_s;
    say_hello() if !$session && $now >= $next_hello;
    beat() if $session && $now >= $next_beat;
    if ($draining && $session && !%spool) {
        send_message($dispatch, 'BYE', {session => $session});
        last;
    }
    next if !$dispatch;
    my $wait = ($session ? $next_beat : $next_hello) - time;
    my $select = IO::Select->new($dispatch->{socket}, $results->{socket});
    for my $ready ($select->can_read($wait > 0 ? $wait : 0)) {
        my $peer = $dispatch && $ready == $dispatch->{socket} ? $dispatch : $results;
        receive($peer) if $peer;
    }
}
