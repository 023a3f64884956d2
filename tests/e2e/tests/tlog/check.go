// Reads a live /tlog/ as Go's checksum database is read, with
// golang.org/x/mod/sumdb, which shares no code with the agent.
//
//	check URL VKEY OLD < leaves
//
// OLD is a file with an earlier checkpoint. Each line on stdin is a seq and its
// leaf in base64. Every leaf must be in the newest tree, and that must extend the
// earlier one. Paths here leave out the tile's height, which tlog's have.
package main

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type tiles struct{ url string }

func get(url string) ([]byte, error) {
	answer, err := http.Get(url)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != 200 {
		return nil, fmt.Errorf("%s: %s", url, answer.Status)
	}
	return io.ReadAll(answer.Body)
}

func (t tiles) Height() int { return 8 }

func (t tiles) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, tile := range wanted {
		path := strings.Replace(tile.Path(), "tile/8/", "tile/", 1)
		bytes, err := get(t.url + "/" + path)
		if err != nil {
			return nil, err
		}
		all = append(all, bytes)
	}
	return all, nil
}

func (t tiles) SaveTiles([]tlog.Tile, [][]byte) {}

// tlog's own text of a tree says "go.sum database tree"; a checkpoint says its origin.
func head(text []byte, verifier note.Verifier) tlog.Tree {
	opened, err := note.Open(text, note.VerifierList(verifier))
	fail(err)
	lines := strings.Split(opened.Text, "\n")
	if lines[0] != verifier.Name() {
		fail(fmt.Errorf("origin %q, key %q", lines[0], verifier.Name()))
	}
	tree, err := tlog.ParseTree([]byte("go.sum database tree\n" + strings.Join(lines[1:3], "\n") + "\n"))
	fail(err)
	return tree
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func main() {
	url := os.Args[1]
	verifier, err := note.NewVerifier(os.Args[2])
	fail(err)
	text, err := os.ReadFile(os.Args[3])
	fail(err)
	old := head(text, verifier)
	text, err = get(url + "/checkpoint")
	fail(err)
	tree := head(text, verifier)
	reader := tlog.TileHashReader(tree, tiles{url})
	proof, err := tlog.ProveTree(tree.N, old.N, reader)
	fail(err)
	fail(tlog.CheckTree(proof, tree.N, tree.Hash, old.N, old.Hash))
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	count := 0
	for lines.Scan() {
		var seq int64
		var encoded string
		_, err := fmt.Sscan(lines.Text(), &seq, &encoded)
		fail(err)
		leaf, err := base64.StdEncoding.DecodeString(encoded)
		fail(err)
		proof, err := tlog.ProveRecord(tree.N, seq, reader)
		fail(err)
		fail(tlog.CheckRecord(proof, tree.N, tree.Hash, seq, tlog.RecordHash(leaf)))
		count++
	}
	fail(lines.Err())
	fmt.Printf("%d of %d records, extends %d\n", count, tree.N, old.N)
}
