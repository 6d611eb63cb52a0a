"""events.recording: event streams in a file, as they came, and what a router made of them.

Owns the form of a recording, its writer and reader, and the ways to look at one. Times come from
the records, never from a clock: playback takes the steps that were taken live.

The way in: `StreamFollower` (`follower.py`) for playback, `Capture` (`capture.py`) to record.

    recording.py   the form: a magic, then records with two sums each
    recorder.py    `EventRecorder`: the writing half
    reader.py      `RecordingReader`: the reading half; damage is named by its place
    capture.py     `Capture`: listens to live sources and records them
    follower.py    `StreamFollower`: records into an index
    followed.py    one recorded source, native or another engine's, behind `StreamSource`
    recorded.py    points of a recording: the index at each, and what changed between two
    listing.py     entries for people: what each record says, with gaps marked
    gaps.py        which batches did not arrive, as far as messages show
"""
