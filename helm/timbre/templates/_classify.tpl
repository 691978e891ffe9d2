{{/*
What helm test runs in the server's image: a second and a half of a vowel that rises and falls, and
what the server says to it. Whether it hears speech in that is the model's affair.
*/}}
{{- define "timbre.classify" -}}
import json
import os
import subprocess
import sys
import tempfile
import urllib.request

import numpy
import soundfile

url = os.environ["URL"]
headers = {}
if "TOKENS" in os.environ:
    lines = (line.partition("#")[0].strip() for line in open(os.environ["TOKENS"]))
    os.environ["TIMBRE_TOKEN"] = next(filter(None, lines))
    headers["Authorization"] = "Bearer " + os.environ["TIMBRE_TOKEN"]

def run(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: exit code {done.returncode}")
    return json.loads(done.stdout)

time = numpy.arange(24000) / 16000
pitch = 110 + 20 * numpy.sin(4 * time)
phase = 2 * numpy.pi * numpy.cumsum(pitch) / 16000
formants = ((700, 1.0), (1200, 0.5), (2500, 0.2))
clip = sum(
    numpy.sin(number * phase)
    * sum(weight / (1 + ((number * pitch - at) / 100) ** 2) for at, weight in formants)
    for number in range(1, 30)
) * numpy.abs(numpy.sin(2 * numpy.pi * time))
file = os.path.join(tempfile.mkdtemp(), "clip.wav")
soundfile.write(file, 0.5 * clip / numpy.abs(clip).max(), 16000)

answer = run("timbre", "classify", "--url", url, file, "--json")
request = urllib.request.Request(url + "/v1/model", headers=headers)
served = json.load(urllib.request.urlopen(request, timeout=10))
wanted = os.environ["BUNDLE_DIGEST"]
if os.environ["BUNDLE_SOURCE"] == "image":
    wanted = run("timbre", "bundle", "show", "--json")["digest"]

print(json.dumps({"answer": answer, "model": served["name"], "version": served["version"]}))
if answer["decision"] != "no_speech" and answer["label"] not in served["labels"]:
    sys.exit(f"The answer has none of the model's labels: {answer['label']}.")
if wanted and served["digest"] != wanted:
    sys.exit(f"The server has bundle {served['digest']}, and {wanted} was asked for.")
{{- end }}
